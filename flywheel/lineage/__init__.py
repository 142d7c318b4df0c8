"""The record of a run: ledger, store, lock, the state replayed from them, and their verification."""
