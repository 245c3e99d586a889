//! With `block_local_infile`, a hostile server gets no file that a client's statement does not name. The server sends random
//! packets in random order.
//!
//! The client is a model, more lenient than any real one. Two properties hold:
//! - No byte of such a file is forwarded.
//! - A client that closes the connection after a response that it cannot read gets no such request where it would send a file.

#[path = "local_infile/client.rs"]
mod client;

use client::{Act, Client, Command, Leniency, WANTED};
use firstword::event::Sender;
use firstword::rules::{Expected, Rules};

use crate::budget::search;
use firstword_testing::hostile::{Id, Numbers, Piece, Style, pick, progress};
use firstword_testing::link::Link;
use firstword_testing::packets::*;
use firstword_testing::random::Random;
use firstword_testing::replay::{is_blocked, link};

const SECRET: &[u8] = b"the secret of the client";
const OPTIONAL_METADATA: u32 = 1 << 25;

#[derive(Clone, Debug)]
enum Step {
    /// A command, and true if all bytes of the server arrive before it.
    Client(Command, bool),
    /// A packet, and the number of bytes that do not arrive before the next step.
    Server(Piece, usize),
}

/// Random number of bytes that arrive later.
fn rest(random: &mut Random) -> usize {
    match random.below(4) {
        0 => random.below(20),
        1 => usize::MAX,
        _ => 0,
    }
}

/// Random connection, from the login on.
#[derive(Clone, Debug)]
struct Scenario {
    leniency: Leniency,
    capabilities: u32,
    /// Packets of the server between the handshake response and the OK.
    login: Vec<Piece>,
    steps: Vec<Step>,
}

impl Scenario {
    fn random(random: &mut Random) -> Self {
        let mut capabilities = CLIENT_CAPABILITIES & !CLIENT_SSL;
        for flag in [CLIENT_DEPRECATE_EOF, OPTIONAL_METADATA] {
            capabilities |= flag * random.below(2) as u32;
        }
        // Without LONG_PASSWORD the server is MariaDB, which can send progress reports.
        capabilities &= !(random.below(2) as u32);
        let style = Style {
            deprecate_eof: capabilities & CLIENT_DEPRECATE_EOF != 0,
            optional_metadata: capabilities & OPTIONAL_METADATA != 0 || capabilities & 1 == 0,
            file: "/etc/secret".to_owned(),
            has_long: random.below(500) == 0,
        };
        let leniency = Leniency::random(random);
        let mut login = Vec::new();
        if random.below(4) == 0 {
            login.extend((0..=random.below(2)).map(|_| {
                let payload = if random.below(2) == 0 { progress(random) } else { style.any(random) };
                Piece::Packet(Id::Next, payload)
            }));
        }
        let mut steps = Vec::new();
        for _ in 0..2 + random.below(5) {
            let mut commands = vec![*pick(random, &Command::ALL)];
            if leniency.pipelines && random.below(2) == 0 {
                commands.push(*pick(random, &Command::ALL));
            }
            if random.below(8) == 0 {
                let unsolicited = style.unsolicited(random);
                steps.extend(unsolicited.into_iter().map(|piece| Step::Server(piece, rest(random))));
            }
            steps.extend(commands.iter().map(|command| Step::Client(*command, random.below(3) > 0)));
            for command in commands {
                // A lenient client may read the response as that to another command.
                let command = if random.below(6) == 0 { *pick(random, &Command::ALL) } else { command };
                let mut response = style.response(command.payload()[0], random);
                if random.below(20) == 0 {
                    let at = random.below(response.len() + 1);
                    response.insert(at, style.broken(random));
                }
                steps.extend(response.into_iter().map(|piece| Step::Server(piece, rest(random))));
            }
        }
        Self { leniency, capabilities, login, steps }
    }

    fn run(&self) -> Result<(), String> {
        let expected = Expected::Mysql;
        let rules = Rules { expected, block_local_infile: true, ..Rules::observe_only() };
        let optional = self.capabilities & OPTIONAL_METADATA != 0 || self.capabilities & 1 == 0;
        let deprecate_eof = self.capabilities & CLIENT_DEPRECATE_EOF != 0;
        let client = Client::new(self.leniency, deprecate_eof, optional, self.capabilities & 1 == 0);
        let mut run = Run { link: link(&rules), client, pending: Vec::new() };
        let mut numbers = Numbers { next: 2 };
        run.server(&packet(0, &handshake_v10("5.5.5-10.11.19-MariaDB", self.capabilities)));
        if run.client_sends(&self.handshake_response()) != Some(true) {
            return Ok(());
        }
        for piece in &self.login {
            let bytes = numbers.bytes(piece);
            run.server(&bytes);
        }
        let bytes = numbers.bytes(&Piece::Packet(Id::Next, ok()));
        run.server(&bytes);
        run.client_logged_in();
        for step in &self.steps {
            match step {
                Step::Client(command, is_after_all) => {
                    if *is_after_all {
                        run.flush(0)?;
                    }
                    let Some(bytes) = run.client.sends(*command) else { continue };
                    if run.client_sends(&bytes) != Some(true) {
                        return Ok(());
                    }
                    numbers.next = 1;
                }
                Step::Server(piece, rest) => {
                    run.pending.extend(numbers.bytes(piece));
                    run.flush(*rest)?;
                }
            }
            run.client_acts()?;
        }
        run.flush(0)?;
        run.client_acts()
    }

    fn handshake_response(&self) -> Vec<u8> {
        let mut response = handshake_response(self.capabilities);
        if self.capabilities & 1 == 0 {
            // MariaDB's extended capabilities are the last 4 bytes of the filler.
            response[28..32].copy_from_slice(&0x1f_u32.to_le_bytes());
        }
        packet(1, &response)
    }

    fn text(&self) -> String {
        let lines = [format!("{:?}", self.leniency), format!("capabilities {:#x}", self.capabilities)];
        let login = self.login.iter().map(|piece| format!("login: server: {piece:?}"));
        let steps = self.steps.iter().map(|step| match step {
            Step::Client(command, true) => format!("client: {command:?}"),
            Step::Client(command, false) => format!("client, before the pending bytes: {command:?}"),
            Step::Server(piece, 0) => format!("server: {piece:?}"),
            Step::Server(piece, usize::MAX) => format!("server, arrives later: {piece:?}"),
            Step::Server(piece, rest) => format!("server, {rest} bytes arrive later: {piece:?}"),
        });
        lines.into_iter().chain(login).chain(steps).collect::<Vec<_>>().join("\n")
    }

    /// Removes steps as long as the scenario still fails. Returns the rest and its failure.
    fn shrink(mut self) -> (Self, String) {
        let mut why = self.run().expect_err("a failure");
        loop {
            let mut shorter = (0..self.login.len() + self.steps.len()).map(|at| {
                let mut less = self.clone();
                match at.checked_sub(self.login.len()) {
                    None => drop(less.login.remove(at)),
                    Some(at) => drop(less.steps.remove(at)),
                }
                less
            });
            match shorter.find_map(|less| less.run().err().map(|why| (less, why))) {
                Some(less) => (self, why) = less,
                None => return (self, why),
            }
        }
    }
}

struct Run {
    link: Link,
    client: Client,
    pending: Vec<u8>,
}

impl Run {
    fn server(&mut self, bytes: &[u8]) {
        let passed = self.link.pass(Sender::Server, bytes);
        self.client.receives(&passed);
    }

    /// Sends the pending bytes except the last `rest`.
    fn flush(&mut self, rest: usize) -> Result<(), String> {
        let len = self.pending.len();
        let bytes: Vec<u8> = self.pending.drain(..len - rest.min(len)).collect();
        if !bytes.is_empty() {
            self.server(&bytes);
        }
        self.client_acts()
    }

    /// `Some(true)` if all bytes are forwarded, `Some(false)` if no byte is.
    fn client_sends(&mut self, bytes: &[u8]) -> Option<bool> {
        let passed = self.link.pass(Sender::Client, bytes);
        (passed == bytes).then_some(true).or_else(|| passed.is_empty().then_some(false))
    }

    /// Ends the connection phase. The model reads all its packets without a check.
    fn client_logged_in(&mut self) {
        self.client.logged_in();
    }

    fn client_acts(&mut self) -> Result<(), String> {
        while let Some(act) = self.client.acts() {
            let Act::Sends(id, file) = act else { continue };
            let command = *self.client.waiting.front().expect("a command");
            let is_named = command == Command::Load && file == WANTED.as_bytes();
            let text: &[u8] = if is_named { b"1\t2\n" } else { SECRET };
            let first = id.wrapping_add(1);
            let upload = [packet(first, text), packet(first.wrapping_add(1), b"")].concat();
            let passed = self.link.pass(Sender::Client, &upload);
            if !is_named && passed.windows(SECRET.len()).any(|window| window == SECRET) {
                return Err(format!(
                    "the file that the client sends after {command:?} has reached the server"
                ));
            }
            if !is_named && !self.client.leniency.survives {
                return Err(format!("the client reads a request for a file as the response to {command:?}"));
            }
            if is_blocked(&self.link.events) {
                self.client.is_closed = true;
                return Ok(());
            }
            self.client.sent_file(first.wrapping_add(2));
        }
        Ok(())
    }
}

#[test]
fn no_sequence_of_packets_gets_a_file_that_the_statement_does_not_name() {
    search(|random| {
        let scenario = Scenario::random(random);
        if scenario.run().is_err() {
            let (scenario, why) = scenario.shrink();
            panic!("{why}\n{}", scenario.text());
        }
    });
}
