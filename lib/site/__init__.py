"""The book: executed, built, printed; what is recorded."""
