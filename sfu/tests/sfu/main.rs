//! The SFU as a whole, datagram by datagram: what goes in, and what comes out for whom.

mod call;
mod catch_up;
mod connection;
mod first_words;
mod new_ssrc;
mod picture_loss;
mod published;
mod receivers_ask;
mod restart;
mod stray_repairs;
mod uplink;
