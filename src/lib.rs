//! nodeprobe
pub mod host;
