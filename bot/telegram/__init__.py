"""The Telegram bot that we run: the plug-in `thumbwise.telegram` behind an inbox that loses nothing.

Telegram confirms what was delivered as soon as the next updates are asked for, and the usual loop asks before handlers
have run: 20 kills lost 47 of 3,590 clicks that way. Here a batch is committed to the bot's file first, then confirmed,
then worked on, and what a kill interrupts is worked on again (`inbox`, `dispatch`). `process` puts the parts together.
"""
