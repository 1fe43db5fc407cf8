//! See `gear_fuzz::rest_submit`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(rest_submit);
