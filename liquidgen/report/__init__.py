"""A page about one run and others beside it, as one file without links to the network.

    workspace (files of this checkout) -+
                                        +-> RunFacts -> page
    recorded  (runs in MLflow) ---------+

The run of the workspace is shown as its files are, and other runs as MLflow has them. The page
depends on other runs, so it is no output of DVC: evaluate writes it whenever it runs, and
`liquidgen compare` at any time, also after DVC restored the outputs from its cache.
"""
