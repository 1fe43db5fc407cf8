//! Derives of `Record` and `Key` for the types that flow through a job.
