//! Cases that chance meets rarely.
