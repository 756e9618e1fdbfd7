"""Everything fails at random for an hour: does anything pile up, get lost or tell a lie?"""
