"""Calls and replies, before anybody knows which protocol is spoken."""
