//! A pool's options on their way to a node, which makes a pool of its own of them.

use super::options::PoolOptions;
use crate::error::{Error, Result};
use crate::family::options::WorkerOptions;
use crate::sys::children::Command;
use crate::task::settings::Settings;
use crate::task::wire::{Reader, Writer};
use std::ffi::CString;

/// How many options travel as a number each.
const NUMBERS: usize = 12;

/// These options. Every one is named here, and says by that whether a node gets it.
fn numbers(options: &PoolOptions<'_>) -> [u64; NUMBERS] {
    let &PoolOptions {
        ref worker,
        workers,
        min_workers,
        idle_timeout_ns,
        deadline_ns,
        grace_ns,
        cancel_signal,
        max_tasks_per_worker,
        recycle_age_ns,
        recycle_bytes,
        max_worker_bytes,
        // These travel in the settings.
        initializer: _,
        initializer_input: _,
        finalizer: _,
        faults: _,
        // These are for the pool of rank 0 alone, which the program calls.
        window_tasks: _,
        window_bytes: _,
        interruptible: _,
        inline: _,
        no_thread: _,
        engine: _,
    } = options;
    let &WorkerOptions {
        start_timeout_ns,
        heap_bytes,
        // These are the program, which travels by itself.
        worker_path: _,
        worker_arguments: _,
        // These travel in the settings.
        start: _,
        preload: _,
        environment: _,
        directory: _,
        library_threads: _,
        nice: _,
        oom_score_adj: _,
        affinity: _,
        processors: _,
        limits: _,
        output: _,
        core_files: _,
        no_crash_handler: _,
    } = worker;
    [
        workers as u64,
        min_workers as u64,
        idle_timeout_ns,
        deadline_ns,
        grace_ns,
        cancel_signal as u64,
        max_tasks_per_worker.into(),
        recycle_age_ns,
        recycle_bytes,
        max_worker_bytes,
        start_timeout_ns,
        heap_bytes as u64,
    ]
}

/// The same on the node. A number more or less than [`numbers`] makes does not compile.
fn of_numbers(numbers: [u64; NUMBERS]) -> PoolOptions<'static> {
    let [
        workers,
        min_workers,
        idle_timeout_ns,
        deadline_ns,
        grace_ns,
        cancel_signal,
        max_tasks_per_worker,
        recycle_age_ns,
        recycle_bytes,
        max_worker_bytes,
        start_timeout_ns,
        heap_bytes,
    ] = numbers;
    PoolOptions {
        workers: workers as usize,
        min_workers: min_workers as usize,
        idle_timeout_ns,
        deadline_ns,
        grace_ns,
        cancel_signal: cancel_signal as i32,
        max_tasks_per_worker: max_tasks_per_worker as u32,
        recycle_age_ns,
        recycle_bytes,
        max_worker_bytes,
        worker: WorkerOptions {
            start_timeout_ns,
            heap_bytes: heap_bytes as usize,
            ..WorkerOptions::default()
        },
        // The node's one thread is in the pool at least once in a millisecond.
        no_thread: true,
        ..PoolOptions::default()
    }
}

/// A pool's options as they travel.
pub(super) fn write_options(out: &mut Writer, options: &PoolOptions<'_>) -> Result<()> {
    numbers(options).into_iter().for_each(|number| out.number(number));
    options.settings()?.encode(out);
    let program = options.worker.program()?;
    out.number(program.is_some().into());
    if let Some(Command { path, arguments }) = program {
        out.bytes(path.to_bytes());
        out.number(arguments.len() as u64);
        arguments.iter().for_each(|argument| out.bytes(argument.to_bytes()));
    }
    Ok(())
}

/// What a node is to make a pool of.
pub(super) fn read_options(
    reader: &mut Reader<'_>,
) -> Result<(PoolOptions<'static>, Settings, Option<Command>)> {
    let mut numbers = [0; NUMBERS];
    for number in &mut numbers {
        *number = reader.number()?;
    }
    let options = of_numbers(numbers);
    let settings = Settings::decode(reader, None)?;
    let string =
        |bytes: &[u8]| CString::new(bytes).map_err(|_| Error::errno(libc::EPROTO, "a path with a zero byte"));
    let program = match reader.number()? {
        0 => None,
        _ => {
            let path = string(reader.bytes()?)?;
            let count = reader.number()?;
            let arguments = (0..count).map(|_| string(reader.bytes()?)).collect::<Result<_>>()?;
            Some(Command { path, arguments })
        }
    };
    Ok((options, settings, program))
}
