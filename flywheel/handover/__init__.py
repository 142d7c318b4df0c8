"""Handing a generation over: a bundle with its papers, signed, and the check of one."""
