//! See `gear_fuzz::rest_voters`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(rest_voters);
