"""The Discord bot that we run: the plug-in `thumbwise.discord` in a bot of its own.

Discord hands nothing over twice but what a broken connection's resumption repeats, so there is no inbox here. What
counts is kept all the same: a press is shown as counted only when the server has stored it, under the interaction's own
number; and the buttons below every message hold all that a restarted process needs to know.
"""
