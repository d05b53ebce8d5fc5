//! What a worker does.

use std::net::TcpStream;
use std::sync::Arc;

use rustls::ServerConfig;

use super::super::connection::Connection;
use super::exchange::{self, CONTENT_TIME, Exchange, PRESSED_TIME};
use super::request::{Refusal, Request};
use super::wait::Shared;
use super::{HEAD_TIME, Handler};

/// A client that is connected.
#[derive(Debug)]
pub(super) enum Client {
    /// It has not said anything yet.
    New(TcpStream),
    /// It was answered before.
    Known(Box<Connection>),
}

impl Client {
    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::New(tcp) => tcp,
            Self::Known(connection) => connection.tcp(),
        }
    }
}

/// Takes clients that have something to say, until the server stops.
pub(super) fn work(
    shared: &Shared,
    number: usize,
    handler: &mut impl Handler,
    tls: Option<&Arc<ServerConfig>>,
) {
    while let Some(client) = shared.next(number) {
        let kept = serve(client, shared, handler, tls);
        shared.done(number, kept);
    }
}

/// Answers what a client has asked, and returns its connection if it is kept.
fn serve(
    client: Client,
    shared: &Shared,
    handler: &mut impl Handler,
    tls: Option<&Arc<ServerConfig>>,
) -> Option<Box<Connection>> {
    let mut connection = match client {
        Client::New(tcp) => Box::new(Connection::accept(tcp, tls, HEAD_TIME).ok()?),
        Client::Known(connection) => connection,
    };
    loop {
        connection.set_progress_time(HEAD_TIME);
        let request = match Request::receive(&mut connection) {
            Ok(request) => request?,
            Err(Refusal::Bad(status, words)) => {
                exchange::refuse(&mut connection, status, words);
                return None;
            }
            Err(Refusal::Gone) => return None,
        };
        connection.set_progress_time(if shared.is_pressed() { PRESSED_TIME } else { CONTENT_TIME });
        let mut exchange = Exchange::new(request, &mut connection, shared.keeps_connections());
        let handled = handler.handle(&mut exchange);
        if !exchange.finish(handled) {
            return None;
        }
        if !connection.has_more() {
            connection.rest();
            return Some(connection);
        }
    }
}
