//! The access log's way out: bounded, never waited for.
//!
//! Each worker fills a buffer of its own; one thread takes full buffers away and writes them. A worker that
//! finds its buffer full drops the line and counts it: a slow disk costs log lines, never requests.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Bytes that may wait to be written, for each worker.
const WAITING_BYTES: usize = 1 << 20;

/// Lines are gathered so long before they are written together.
const GATHER: Duration = Duration::from_millis(20);

#[derive(Default)]
struct Shared {
    buffers: Mutex<Vec<Arc<Mutex<String>>>>,
    woken: Mutex<bool>,
    wake: Condvar,
    ended: AtomicBool,
    dropped: AtomicU64,
}

impl Shared {
    fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.wake.notify_one();
    }
}

/// The thread that writes the access log; dropping it writes what is left.
pub struct LogWriter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl LogWriter {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the thread cannot be made.
    pub fn start(to: impl Write + Send + 'static) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write(&writer, to))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// One worker's end.
    pub fn queue(&self) -> LogQueue {
        let buffer = Arc::new(Mutex::new(String::new()));
        self.shared.buffers.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&buffer));
        LogQueue { shared: Arc::clone(&self.shared), buffer }
    }

    /// How many lines were dropped so far.
    pub fn dropped(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let shared = Arc::clone(&self.shared);
        move || shared.dropped.load(Ordering::Relaxed)
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where one worker puts its lines.
pub struct LogQueue {
    shared: Arc<Shared>,
    buffer: Arc<Mutex<String>>,
}

impl LogQueue {
    /// Adds a line, unless too many wait already.
    pub fn push(&self, write_line: impl FnOnce(&mut String)) {
        // Only the writer thread ever holds this lock besides, for the length of a swap.
        let mut buffer = self.buffer.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.len() >= WAITING_BYTES {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let first = buffer.is_empty();
        write_line(&mut buffer);
        drop(buffer);
        if first {
            self.shared.wake();
        }
    }
}

fn write(shared: &Shared, mut to: impl Write) {
    let mut taken = String::new();
    loop {
        let mut woken = shared.woken.lock().unwrap_or_else(PoisonError::into_inner);
        while !*woken {
            woken = shared.wake.wait(woken).unwrap_or_else(PoisonError::into_inner);
        }
        *woken = false;
        drop(woken);
        let ended = shared.ended.load(Ordering::Acquire);
        if !ended {
            std::thread::sleep(GATHER);
        }
        let buffers = shared.buffers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for buffer in buffers {
            std::mem::swap(&mut taken, &mut *buffer.lock().unwrap_or_else(PoisonError::into_inner));
            // A log that cannot be written must not stop the proxy; lost lines are counted as dropped.
            if to.write_all(taken.as_bytes()).is_err() {
                let lines = u64::try_from(taken.matches('\n').count()).unwrap_or(u64::MAX);
                shared.dropped.fetch_add(lines, Ordering::Relaxed);
            }
            taken.clear();
        }
        let _ = to.flush();
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_of_every_worker_is_written_once() {
        let memory = Memory::default();
        let writer = LogWriter::start(memory.clone()).unwrap();
        let queues = [writer.queue(), writer.queue()];
        for n in 0..100 {
            for (worker, queue) in queues.iter().enumerate() {
                queue.push(|out| out.push_str(&format!("{worker} {n}\n")));
            }
        }
        drop(writer);
        let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
        let mut lines: Vec<_> = text.lines().collect();
        lines.sort_unstable();
        lines.dedup();
        assert_eq!(lines.len(), 200);
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (release, stuck) = std::sync::mpsc::channel();
        let writer = LogWriter::start(Stuck(stuck)).unwrap();
        let (queue, dropped) = (writer.queue(), writer.dropped());
        let line = "x".repeat(1 << 16) + "\n";
        for _ in 0..100 {
            queue.push(|out| out.push_str(&line));
        }
        assert!(dropped() > 0 && dropped() < 100);
        drop(release);
    }
}
