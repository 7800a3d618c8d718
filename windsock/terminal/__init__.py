"""What a person sees: steps, save lines, errors."""
