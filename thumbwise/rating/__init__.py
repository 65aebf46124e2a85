"""What every bot needs to let people rate replies, with no platform in it: the shared part of the plug-ins.

It speaks HTTP through `thumbwise.client` and imports nothing else of ours, so that it works beside a host's own
`bot.py`. docs/bots.md draws how the parts fit; in short:

    buttons   signed data of keys, and who may press them       cards     keys and texts of votes, choices, questions
    book      which message was which reply, by keyed marks      texts     all of it in the reader's language
    desk      acts of raters, stored once                        replies   drawing a reply, shown as it grows
    privacy   consent, export, erasure                           conversations   who said what so far, in memory
"""
