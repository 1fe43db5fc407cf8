//! See `gear_fuzz::avro_decode`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(avro_decode);
