//! See `gear_fuzz::protobuf_decode`.
#![cfg_attr(fuzzing, no_main)]
gear_fuzz::target!(protobuf_decode);
