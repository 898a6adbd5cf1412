"""zetalib: from zeros of the Riemann zeta function to a calibrated forecast of the next spacing."""
