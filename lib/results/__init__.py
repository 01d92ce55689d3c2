"""What runs say: tables, learning rates, claims, numbers in sentences, costs."""
