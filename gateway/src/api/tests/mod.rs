mod cluster;
mod fakes;
mod http;
mod inbox;
mod publish;
mod support;
