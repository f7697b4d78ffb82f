"""LSTM surrogates of DEM simulations, searched for on HPC clusters."""
