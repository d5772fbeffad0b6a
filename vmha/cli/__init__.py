"""What an operator types; a client of the contract with no way in of its own."""
