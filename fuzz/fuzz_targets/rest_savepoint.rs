//! See `gear_fuzz::rest_savepoint`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(rest_savepoint);
