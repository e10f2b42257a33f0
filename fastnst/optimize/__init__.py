"""Pictures whose pixels are the parameters (Gatys et al. 2015), and what they tell about the loss network."""
