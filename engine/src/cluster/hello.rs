//! How two processes of a job make sure of one another. Pure: bytes in, bytes and an outcome out.
//!
//! Both say hello: who they are, what they run, and a random number. The one that has dialed then proves that it knows
//! the job's secret, by a code (HMAC-SHA-256, RFC 2104) over both hellos; only if that is right, the other proves it as
//! well. The secret itself never leaves a process, and what was heard once is good for no other connection, because both
//! random numbers are in it. At last the one that dialed says welcome.
//!
//! The first ten bytes and the version of nekton stay as they are in every version of this protocol, so that processes
//! of different versions can say so.

use ring::hmac;

use super::Secret;

const MAGIC: &[u8; 6] = b"nekton";
/// The version of what processes say to one another, frames included.
pub(super) const PROTOCOL: u16 = 2;
const HEAD: usize = 10;
const NONCE: usize = 32;
/// The most bytes of a refusal.
const WORDS: usize = 512;

const PROOF: u8 = 1;
const WELCOME: u8 = 2;
const REFUSAL: u8 = 3;

/// What a process is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Party {
    pub(super) process: u32,
    pub(super) processes: u32,
    pub(super) workers: u32,
    /// The [`crate::hash::fixed_hash`] of the job's name.
    pub(super) job: u64,
    /// A hash of the program; 0 where it is unknown.
    pub(super) program: u64,
    /// The version of nekton.
    pub(super) version: String,
}

impl Party {
    /// A hello: head, and body.
    fn hello(&self, secret: bool, nonce: &[u8; NONCE]) -> Vec<u8> {
        let version = &self.version.as_bytes()[..self.version.len().min(64)];
        let mut body = vec![version.len() as u8];
        body.extend_from_slice(version);
        for number in [self.process, self.processes, self.workers] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(&self.job.to_le_bytes());
        body.extend_from_slice(&self.program.to_le_bytes());
        body.push(u8::from(secret));
        body.extend_from_slice(nonce);
        let mut hello = MAGIC.to_vec();
        hello.extend_from_slice(&PROTOCOL.to_be_bytes());
        hello.extend_from_slice(&(body.len() as u16).to_be_bytes());
        hello.extend(body);
        hello
    }

    /// Reads a hello's body: a party, and whether it has a secret.
    fn read(body: &[u8]) -> Option<(Self, bool)> {
        let (size, rest) = body.split_first()?;
        let (version, rest) = rest.split_at_checked(usize::from(*size))?;
        let (numbers, rest) = rest.split_first_chunk::<28>()?;
        let (secret, nonce) = rest.split_first()?;
        let small =
            |at: usize| u32::from_le_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
        let large = |at: usize| u64::from(small(at)) | u64::from(small(at + 4)) << 32;
        let party = Party {
            process: small(0),
            processes: small(4),
            workers: small(8),
            job: large(12),
            program: large(20),
            version: words(version),
        };
        (nonce.len() == NONCE && *secret <= 1).then_some((party, *secret == 1))
    }

    /// Why `other` is not a part of the same job.
    fn mismatch(&self, other: &Party) -> Option<String> {
        let differing = |what: &str, ours: u32, theirs: u32| {
            format!("it has {theirs} {what}, this one {ours}: start all processes with the same flags")
        };
        if other.version != self.version {
            Some(format!(
                "it is built with nekton {}, this one with {}: start the same program everywhere",
                other.version, self.version
            ))
        } else if other.job != self.job {
            Some("it runs a job of another name".to_owned())
        } else if other.processes != self.processes {
            Some(differing("processes", self.processes, other.processes))
        } else if other.workers != self.workers {
            Some(differing("workers", self.workers, other.workers))
        } else if other.program != self.program && other.program != 0 && self.program != 0 {
            Some("it runs another build of the program: start the same one everywhere".to_owned())
        } else if other.process == self.process {
            Some(format!("both are process {}: give each its own --process", self.process))
        } else {
            None
        }
    }
}

/// Text of somebody else, fit to be printed.
fn words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(WORDS)]);
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Which of the two has opened the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Dials,
    Accepts,
}

/// Why two processes do not work together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The other is something else.
    Stranger,
    /// The other encrypts its connections.
    Encrypted,
    /// The other speaks another version of the protocol.
    Protocol(u16),
    /// Only the other has a secret, or only this one.
    Unequal { theirs: bool },
    /// The other's secret is not ours.
    Secret,
    /// The other, which knows the secret, is no part of this job.
    Mismatch(Party, String),
    /// The other has refused, for this reason.
    Refused(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Stranger => f.write_str("it is no nekton process"),
            Refusal::Encrypted => {
                f.write_str("it wants TLS: give all processes --cluster-tls-cert, -key and -ca, or none")
            }
            Refusal::Protocol(theirs) => write!(
                f,
                "it speaks version {theirs} of nekton's protocol, this one {PROTOCOL}: start the same program everywhere"
            ),
            Refusal::Unequal { theirs: true } => {
                f.write_str("it has a secret and this one has none: give all the same --secret-file")
            }
            Refusal::Unequal { theirs: false } => {
                f.write_str("it has no secret and this one has: give all the same --secret-file")
            }
            Refusal::Secret => f.write_str("it has another secret: give all the same --secret-file"),
            Refusal::Mismatch(_, why) => f.write_str(why),
            Refusal::Refused(why) => write!(f, "it refuses this one: {why}"),
        }
    }
}

enum State {
    Head,
    Hello,
    /// The head of a message of this kind, or of a refusal: kind and length.
    Message(u8),
    /// The body of a message of this kind.
    Body(u8),
}

/// One end of the conversation.
pub(super) struct Handshake {
    own: Party,
    role: Role,
    secret: Option<Secret>,
    hello: Vec<u8>,
    heard: Vec<u8>,
    peer: Option<Party>,
    state: State,
    needs: usize,
}

/// What is to be done next.
pub(super) struct Step {
    pub(super) send: Vec<u8>,
    pub(super) outcome: Option<Result<Party, Refusal>>,
}

impl Step {
    fn send(send: Vec<u8>) -> Self {
        Step { send, outcome: None }
    }
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend_from_slice(&(body.len() as u16).to_be_bytes());
    message.extend_from_slice(body);
    message
}

impl Handshake {
    /// Begins, with `nonce` from a secure source. The bytes are to be sent first.
    pub(super) fn new(own: Party, role: Role, secret: Option<Secret>, nonce: [u8; NONCE]) -> (Self, Vec<u8>) {
        let hello = own.hello(secret.is_some(), &nonce);
        let sent = hello.clone();
        let handshake = Handshake {
            own,
            role,
            secret,
            hello,
            heard: Vec::new(),
            peer: None,
            state: State::Head,
            needs: HEAD,
        };
        (handshake, sent)
    }

    /// How many bytes it wants next.
    pub(super) fn needs(&self) -> usize {
        self.needs
    }

    /// Takes as many bytes as it wanted.
    pub(super) fn receive(&mut self, bytes: &[u8]) -> Step {
        match self.advance(bytes) {
            Ok(step) => step,
            Err(refusal) => {
                // Who is no process of a job gets no answer, and a refusal is not answered by another.
                let silent = matches!(
                    refusal,
                    Refusal::Stranger | Refusal::Encrypted | Refusal::Protocol(_) | Refusal::Refused(_)
                );
                let why = match &refusal {
                    Refusal::Unequal { theirs } => Refusal::Unequal { theirs: !theirs }.to_string(),
                    Refusal::Mismatch(_, _) => {
                        let peer = self.peer.as_ref();
                        peer.and_then(|peer| peer.mismatch(&self.own)).unwrap_or_default()
                    }
                    other => other.to_string(),
                };
                let why = &why.as_bytes()[..why.len().min(WORDS)];
                let send = if silent { Vec::new() } else { message(REFUSAL, why) };
                Step { send, outcome: Some(Err(refusal)) }
            }
        }
    }

    fn advance(&mut self, bytes: &[u8]) -> Result<Step, Refusal> {
        match self.state {
            State::Head => {
                let (magic, rest) = bytes.split_first_chunk::<6>().ok_or(Refusal::Stranger)?;
                // A record of TLS: a greeting, or an alert.
                if matches!(magic, [0x15 | 0x16, 3, ..]) {
                    return Err(Refusal::Encrypted);
                }
                let &[high, low, long, short] = rest else { return Err(Refusal::Stranger) };
                if magic != MAGIC {
                    return Err(Refusal::Stranger);
                }
                let protocol = u16::from_be_bytes([high, low]);
                if protocol != PROTOCOL {
                    return Err(Refusal::Protocol(protocol));
                }
                let size = usize::from(u16::from_be_bytes([long, short]));
                if size == 0 {
                    return Err(Refusal::Stranger);
                }
                self.heard = bytes.to_vec();
                (self.state, self.needs) = (State::Hello, size);
                Ok(Step::send(Vec::new()))
            }
            State::Hello => {
                let (peer, secret) = Party::read(bytes).ok_or(Refusal::Stranger)?;
                self.heard.extend_from_slice(bytes);
                self.peer = Some(peer);
                if secret != self.secret.is_some() {
                    return Err(Refusal::Unequal { theirs: secret });
                }
                (self.state, self.needs) = (State::Message(PROOF), 3);
                Ok(Step::send(match self.role {
                    Role::Dials => message(PROOF, self.proof(Role::Dials).as_ref()),
                    Role::Accepts => Vec::new(),
                }))
            }
            State::Message(awaited) => {
                let &[kind, high, low] = bytes else { return Err(Refusal::Stranger) };
                let size = usize::from(u16::from_be_bytes([high, low]));
                let fits = match kind {
                    PROOF => size == 32,
                    WELCOME => size == 0,
                    _ => size > 0 && size <= WORDS,
                };
                if !fits || (kind != awaited && kind != REFUSAL) {
                    return Err(Refusal::Stranger);
                }
                if kind == WELCOME {
                    let peer = self.peer.take().ok_or(Refusal::Stranger)?;
                    return Ok(Step { send: Vec::new(), outcome: Some(Ok(peer)) });
                }
                (self.state, self.needs) = (State::Body(kind), size);
                Ok(Step::send(Vec::new()))
            }
            State::Body(REFUSAL) => Err(Refusal::Refused(words(bytes))),
            State::Body(_) => {
                let other = if self.role == Role::Dials { Role::Accepts } else { Role::Dials };
                if !self.proves(other, bytes) {
                    return Err(Refusal::Secret);
                }
                let peer = self.peer.clone().ok_or(Refusal::Stranger)?;
                if let Some(why) = self.own.mismatch(&peer) {
                    return Err(Refusal::Mismatch(peer, why));
                }
                match self.role {
                    Role::Dials => Ok(Step { send: message(WELCOME, &[]), outcome: Some(Ok(peer)) }),
                    Role::Accepts => {
                        (self.state, self.needs) = (State::Message(WELCOME), 3);
                        Ok(Step::send(message(PROOF, self.proof(Role::Accepts).as_ref())))
                    }
                }
            }
        }
    }

    /// What is signed: which of the two signs, and both hellos.
    fn signed(&self, by: Role) -> Vec<u8> {
        let (dialer, accepter) = match self.role {
            Role::Dials => (&self.hello, &self.heard),
            Role::Accepts => (&self.heard, &self.hello),
        };
        let who: &[u8] = if by == Role::Dials { b"nekton cluster dials" } else { b"nekton cluster accepts" };
        [who, dialer, accepter].concat()
    }

    fn key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, self.secret.as_ref().map_or(&[], Secret::bytes))
    }

    fn proof(&self, by: Role) -> hmac::Tag {
        hmac::sign(&self.key(), &self.signed(by))
    }

    fn proves(&self, by: Role, proof: &[u8]) -> bool {
        hmac::verify(&self.key(), &self.signed(by), proof).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn party(process: u32) -> Party {
        Party { process, processes: 2, workers: 2, job: 7, program: 9, version: "0.1.0".to_owned() }
    }

    fn secret(text: &str) -> Option<Secret> {
        Some(Secret::new(text.as_bytes()).unwrap())
    }

    type Outcome = Result<Party, Refusal>;

    /// Lets two processes talk; `tamper` sees what each sends. Gives how it ended for both.
    fn talk(
        dials: (Party, Option<Secret>),
        accepts: (Party, Option<Secret>),
        mut tamper: impl FnMut(Role, &mut Vec<u8>),
    ) -> [Option<Outcome>; 2] {
        let (dialer, mut to_accepter) = Handshake::new(dials.0, Role::Dials, dials.1, [1; NONCE]);
        let (accepter, mut to_dialer) = Handshake::new(accepts.0, Role::Accepts, accepts.1, [2; NONCE]);
        tamper(Role::Dials, &mut to_accepter);
        tamper(Role::Accepts, &mut to_dialer);
        let mut ends = [dialer, accepter];
        let mut waiting = [to_dialer, to_accepter];
        let mut outcomes = [None, None];
        loop {
            let ready = |end: usize| outcomes[end].is_none() && waiting[end].len() >= ends[end].needs();
            let Some(end) = (0..2).find(|&end| ready(end)) else { return outcomes };
            let bytes: Vec<u8> = waiting[end].drain(..ends[end].needs()).collect();
            let mut step = ends[end].receive(&bytes);
            tamper([Role::Dials, Role::Accepts][end], &mut step.send);
            waiting[1 - end].extend(step.send);
            outcomes[end] = step.outcome;
        }
    }

    #[test]
    fn processes_of_one_job_find_one_another_with_and_without_a_secret() {
        for key in [None, secret("0123456789abcdef")] {
            let outcomes = talk((party(1), key.clone()), (party(0), key), |_, _| {});
            assert_eq!(outcomes, [Some(Ok(party(0))), Some(Ok(party(1)))]);
        }
    }

    #[test]
    fn both_hear_why_they_do_not_fit() {
        let key = || secret("0123456789abcdef");
        let refused = |dials, accepts| {
            let [dialer, accepter] = talk(dials, accepts, |_, _| {});
            // Who accepts may not have been told, if it was the other who found out.
            let text = |end: Option<Outcome>| end.map_or(String::new(), |end| end.unwrap_err().to_string());
            (text(dialer), text(accepter))
        };
        for other in [
            Party { job: 8, ..party(0) },
            Party { workers: 1, ..party(0) },
            Party { processes: 3, ..party(0) },
            Party { version: "0.2.0".to_owned(), ..party(0) },
            Party { program: 10, ..party(0) },
            party(1),
        ] {
            let (dialer, accepter) = refused((party(1), key()), (other.clone(), key()));
            assert!(!dialer.is_empty() && !accepter.is_empty(), "{other:?}: {dialer}, {accepter}");
        }
        let (dialer, accepter) = refused((party(1), secret("another secret!!")), (party(0), key()));
        assert!(
            dialer.contains("another secret") && accepter.contains("another secret"),
            "{dialer} {accepter}"
        );
        let (dialer, accepter) = refused((party(1), None), (party(0), key()));
        assert!(
            dialer.contains("this one has none") && accepter.contains("it has no secret"),
            "{dialer} {accepter}"
        );
        // A build that is unknown is no other one.
        let unknown = Party { program: 0, ..party(0) };
        assert_eq!(talk((party(1), key()), (unknown, key()), |_, _| {})[1], Some(Ok(party(1))));
    }

    #[test]
    fn what_is_no_nekton_process_gets_no_answer() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..10],
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03",
            b"nekton\x00\x01\x01\x00",
        ] {
            let (mut end, _) = Handshake::new(party(0), Role::Accepts, None, [0; NONCE]);
            let step = end.receive(bytes);
            assert!(step.send.is_empty() && matches!(step.outcome, Some(Err(_))));
        }
    }

    #[test]
    fn a_welcome_is_no_proof() {
        let key = secret("0123456789abcdef");
        let skip = |from: Role, sent: &mut Vec<u8>| {
            if from == Role::Dials && sent.first() == Some(&PROOF) {
                *sent = message(WELCOME, &[]);
            }
        };
        let [_, accepter] = talk((party(1), key.clone()), (party(0), key), skip);
        assert_eq!(accepter, Some(Err(Refusal::Stranger)));
    }

    #[test]
    fn the_secret_is_not_in_what_is_sent_and_a_proof_is_not_good_for_another_connection() {
        let key = secret("0123456789abcdef");
        let mut old = Vec::new();
        talk((party(1), key.clone()), (party(0), key.clone()), |from, sent| {
            assert!(!sent.windows(8).any(|window| window == b"01234567"));
            if from == Role::Dials && sent.first() == Some(&PROOF) {
                old = sent.clone();
            }
        });
        let (mut end, _) = Handshake::new(party(0), Role::Accepts, key, [3; NONCE]);
        let hello = party(1).hello(true, &[1; NONCE]);
        end.receive(&hello[..HEAD]);
        end.receive(&hello[HEAD..]);
        end.receive(&old[..3]);
        assert_eq!(end.receive(&old[3..]).outcome, Some(Err(Refusal::Secret)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_pass_and_never_panic(
            dials in any::<bool>(), bytes in prop::collection::vec(any::<u8>(), 0..400), real in 0_usize..3
        ) {
            let role = if dials { Role::Dials } else { Role::Accepts };
            let (mut end, _) = Handshake::new(party(0), role, secret("0123456789abcdef"), [0; NONCE]);
            let hello = party(1).hello(true, &[1; NONCE]);
            let mut stream = [&b""[..], &hello[..HEAD], &hello][real].to_vec();
            stream.extend(bytes);
            let mut rest = &stream[..];
            while rest.len() >= end.needs() {
                let (taken, left) = rest.split_at(end.needs());
                rest = left;
                match end.receive(taken).outcome {
                    Some(outcome) => {
                        prop_assert!(outcome.is_err());
                        break;
                    }
                    None => prop_assert!(end.needs() > 0 && end.needs() <= usize::from(u16::MAX)),
                }
            }
        }

        #[test]
        fn whoever_changes_a_byte_on_the_way_gets_no_connection(
            at in any::<prop::sample::Index>(), flip in 1_u8.., from_dialer in any::<bool>(), which in 0_usize..2
        ) {
            let key = secret("0123456789abcdef");
            let changed = if from_dialer { Role::Dials } else { Role::Accepts };
            let mut count = 0;
            let outcomes = talk((party(1), key.clone()), (party(0), key), |from, sent| {
                if from == changed && !sent.is_empty() {
                    if count == which {
                        let at = at.index(sent.len());
                        sent[at] ^= flip;
                    }
                    count += 1;
                }
            });
            prop_assert!(!outcomes.iter().all(|outcome| matches!(outcome, Some(Ok(_)))), "{:?}", outcomes);
        }
    }
}
