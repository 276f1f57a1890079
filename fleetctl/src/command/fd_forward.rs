//! `fleetctl fd-forward`: the far end of `--tunnel`.

use clap::Args;
use fleet_client::os_message;
use tokio::{
    io::{self, AsyncWriteExt},
    net::UnixStream,
};

use super::Outcome;
use crate::error::Failure;

/// Connect standard input and output with a unix socket
///
/// This is what `fleetctl --tunnel HOST` runs on that host. Ends when either side does.
#[derive(Args, Debug)]
#[command(after_help = "EXAMPLES:\n    ssh HOST fleetctl fd-forward /var/run/fleet.sock")]
pub struct FdForwardArgs {
    #[arg(value_name = "SOCKET")]
    socket: Vec<String>,
}

pub async fn run(args: FdForwardArgs) -> Outcome {
    let [socket] = &*args.socket else { return Err(Failure::said("Provide a single argument")) };
    let connect = UnixStream::connect(socket).await;
    let stream = connect.map_err(|error| {
        Failure::new(format!("cannot connect to {socket}: {}", os_message(&error)))
            .hint("is fleetd running on this host, and may this user use its socket (group `fleet`)?")
    })?;
    let (mut from_socket, mut to_socket) = stream.into_split();
    let (mut input, mut output) = (io::stdin(), io::stdout());
    let answers = async {
        io::copy(&mut from_socket, &mut output).await?;
        output.flush().await
    };
    // Whichever ends first ends both: half a conversation is of no use to HTTP.
    let ended = tokio::select! {
        ended = io::copy(&mut input, &mut to_socket) => ended.map(drop),
        ended = answers => ended,
    };
    ended.map_err(|error| Failure::new(format!("lost the connection to {socket}: {}", os_message(&error))))?;
    Ok(0)
}
