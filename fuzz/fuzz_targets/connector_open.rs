//! See `gear_fuzz::connector_open`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(connector_open);
