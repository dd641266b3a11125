//! iceoryx2 and ipc-channel, for benches/queue.c: PEER one-way|round-trip LENGTH COUNT, prints nanoseconds per message.
//!
//! One process sends, a forked one receives, and sends back where it is a round trip; each on a processor of its own.

use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;
use ipc_channel::ipc::{IpcBytesReceiver, IpcBytesSender};
use std::error::Error;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

struct Job {
    echo: bool,
    length: usize,
    count: u64,
}

/// What one of the two processes does with a transport.
trait Side {
    fn send(&mut self, bytes: &[u8]) -> Result<()>;
    fn receive(&mut self, buffer: &mut [u8]) -> Result<()>;
}

/// Publish and subscribe, both polled: iceoryx2's fastest way.
struct Iceoryx2 {
    publisher: Publisher<ipc::Service, [u8], ()>,
    subscriber: Subscriber<ipc::Service, [u8], ()>,
    /// Whether the bytes are written and read, or only the loan is passed on.
    copies: bool,
}

impl Iceoryx2 {
    fn new(name: u32, way: usize, job: &Job, copies: bool) -> Result<Iceoryx2> {
        let depth = match job.length {
            ..=1024 => 1024,
            ..=65536 => 32,
            _ => 4,
        };
        let node = NodeBuilder::new().create::<ipc::Service>()?;
        let service = |way: usize| {
            node.service_builder(&ServiceName::new(&format!("tine-bench-{name}-{way}"))?)
                .publish_subscribe::<[u8]>()
                .enable_safe_overflow(false)
                .subscriber_max_buffer_size(depth)
                .subscriber_max_borrowed_samples(2)
                .history_size(0)
                .max_publishers(1)
                .max_subscribers(1)
                .open_or_create()
                .map_err(|error| format!("iceoryx2 service: {error}"))
                .map_err(Box::<dyn Error>::from)
        };
        let publisher = service(way)?
            .publisher_builder()
            .initial_max_slice_len(job.length)
            .max_loaned_samples(2)
            .backpressure_strategy(BackpressureStrategy::RetryUntilDelivered)
            .create()?;
        let subscriber = service(1 - way)?.subscriber_builder().create()?;
        Ok(Iceoryx2 { publisher, subscriber, copies })
    }
}

impl Side for Iceoryx2 {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        loop {
            let sample = self.publisher.loan_slice_uninit(bytes.len())?;
            let receivers = if self.copies {
                sample.write_from_slice(bytes).send()?
            } else {
                // SAFETY: shared memory, in which every byte is a number, whatever it is; nobody reads it.
                unsafe { sample.assume_init() }.send()?
            };
            // None, where it has not seen the subscriber yet: then the message is gone.
            if receivers > 0 {
                return Ok(());
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        loop {
            if let Some(sample) = self.subscriber.receive()? {
                if self.copies {
                    buffer.copy_from_slice(sample.payload());
                }
                return Ok(());
            }
            std::hint::spin_loop();
        }
    }
}

/// A channel of bytes; it sleeps in the kernel.
struct IpcChannel {
    sender: IpcBytesSender,
    receiver: IpcBytesReceiver,
}

impl Side for IpcChannel {
    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.sender.send(bytes)?)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Result<()> {
        buffer.copy_from_slice(&self.receiver.recv().map_err(|error| format!("ipc-channel: {error:?}"))?);
        Ok(())
    }
}

fn stay_on(processor: usize) {
    // SAFETY: a set of this function's own; where there is no such processor, nothing changes.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Two ends of a socket, over which the processes say that they are ready, and that they have finished.
fn line() -> (File, File) {
    let mut ends = [0; 2];
    // SAFETY: a valid place, and both descriptors are new.
    unsafe {
        assert_eq!(libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, ends.as_mut_ptr()), 0);
        (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1]))
    }
}

fn run(line: &mut File, way: usize, job: &Job, side: &mut dyn Side) -> Result<f64> {
    let (bytes, mut buffer) = (vec![1u8; job.length], vec![0u8; job.length]);
    let mut met = [0];
    line.write_all(&met)?;
    line.read_exact(&mut met)?;
    let began = Instant::now();
    for _ in 0..job.count {
        if way == 1 {
            side.receive(&mut buffer)?;
        }
        if way == 0 || job.echo {
            side.send(&bytes)?;
        }
        if way == 0 && job.echo {
            side.receive(&mut buffer)?;
        }
    }
    // What has been sent has been received when the other one says so.
    if way == 1 {
        line.write_all(&met)?;
    } else {
        line.read_exact(&mut met)?;
    }
    let took = began.elapsed().as_nanos() as f64 / job.count as f64;
    // Neither takes its end away while the other still uses it.
    if way == 1 {
        line.read_exact(&mut met)?;
    } else {
        line.write_all(&met)?;
    }
    Ok(took)
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, peer, kind, length, count] = &arguments[..] else {
        return Err(
            "usage: queue-peers iceoryx2|iceoryx2-in-place|ipc-channel one-way|round-trip LENGTH COUNT"
                .into(),
        );
    };
    let job = Job { echo: kind == "round-trip", length: length.parse()?, count: count.parse()? };
    let (mut ours, mut theirs) = line();
    let channels = (peer == "ipc-channel")
        .then(|| {
            Ok::<_, std::io::Error>([ipc_channel::ipc::bytes_channel()?, ipc_channel::ipc::bytes_channel()?])
        })
        .transpose()?;
    let name = std::process::id();
    // SAFETY: there is one thread as yet.
    let child = unsafe { libc::fork() };
    let way = usize::from(child == 0);
    let line = if way == 0 { &mut ours } else { &mut theirs };
    if way == 1 {
        // Who polls would go on for ever for a sender that was killed.
        // SAFETY: no memory is touched.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    }
    stay_on(1 - way);
    let mut side: Box<dyn Side> = match channels {
        Some([there, back]) => {
            let (sender, receiver) = if way == 0 { (there.0, back.1) } else { (back.0, there.1) };
            Box::new(IpcChannel { sender, receiver })
        }
        None => Box::new(Iceoryx2::new(name, way, &job, peer != "iceoryx2-in-place")?),
    };
    let took = run(line, way, &job, &mut *side)?;
    drop(side);
    if way == 0 {
        let mut status = 0;
        // SAFETY: a valid place, and this process's child.
        unsafe { libc::waitpid(child, &mut status, 0) };
        if status != 0 {
            return Err("the receiver failed".into());
        }
        println!("{took}");
    }
    Ok(())
}
