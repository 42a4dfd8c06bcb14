"""The ledger of claims: measured, decided, printed and published."""
