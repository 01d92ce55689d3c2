"""Weight decay, batch normalisation and the steps of LARS: trainer, probes, theory and figures."""
