"""Looks whether a server's database, machine and settings are well, and says how to mend what is not."""
