//! The rooms as a state machine: client messages, SFU events and time in; client messages and commands out.
//! No socket, no thread, no sleep.

mod client;
mod data;
mod house;
mod joining;
mod leaving;
mod presence;
mod publishing;
mod qualities;
mod removing;
mod resuming;
mod service;
mod storm;
mod subscribing;
mod watching;
