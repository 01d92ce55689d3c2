"""Weight decay, batch normalisation and the steps of LARS: trainer, probes, theory and figures."""

import os

# Read when torch is loaded. Threads that spin while they wait make training ten times as slow on a
# machine that does something else as well.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
