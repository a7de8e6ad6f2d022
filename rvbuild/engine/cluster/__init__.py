"""An executor on a cluster of Dask.distributed: jobs run beside its workers, on files that all of them share."""
