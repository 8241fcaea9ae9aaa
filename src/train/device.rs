//! Where the nets compute. The one place that knows which backends there are.

use burn::tensor::Device;

use super::TrainError;
use crate::libtorch;

/// What `train.device` may be; part of every error about it.
const ALLOWED: &str = "allowed are \"cpu\", and with `--features tch` \"tch-cpu\" and \"cuda:N\"";

/// A device and the threads that feed it.
#[derive(Debug)]
pub struct Compute {
    device: Device,
    /// Of the pure-Rust backend alone: LibTorch keeps threads of its own.
    pool: Option<rayon::ThreadPool>,
}

impl Compute {
    /// The device called `name`, as in `train.device`, with `threads` CPU threads (0: one per core).
    ///
    /// `cpu` gets a thread pool of its own, so two learners in one process do not disturb each other and rayon's global pool stays free.
    /// `tch-cpu` sets LibTorch's thread count, which holds for the whole process. On `cuda:N` the count is not used.
    ///
    /// # Errors
    /// [`TrainError::Device`]: an unknown name, a backend that is not in this build, a GPU that is not there.
    pub fn new(name: &str, threads: usize) -> Result<Self, TrainError> {
        let error = |why: String| TrainError::Device { device: name.to_owned(), why };
        if name == "cpu" {
            let threads = if threads > 0 { threads } else { std::thread::available_parallelism().map_or(1, usize::from) };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("compute-{i}")).build();
            let pool = pool.map_err(|e| error(format!("its {threads} threads do not start: {e}; set train.threads lower")))?;
            return Ok(Compute { device: Device::flex(), pool: Some(pool) });
        }
        let device = if name == "tch-cpu" {
            libtorch::cpu(threads)
        } else if let Some(index) = name.strip_prefix("cuda:") {
            let index = index.parse().map_err(|_| error(format!("`{index}` is no GPU number; {ALLOWED}")))?;
            libtorch::cuda(index)
        } else {
            Err(format!("unknown; {ALLOWED}"))
        };
        device.map(|device| Compute { device, pool: None }).map_err(error)
    }

    /// The device tensors are made on.
    #[must_use]
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Runs `work` on the device's threads and waits for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        match &self.pool {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str) -> String {
        Compute::new(name, 1).expect_err("refused").to_string()
    }

    #[test]
    fn unknown_names_are_refused_with_what_is_allowed() {
        for name in ["gpu", "CPU", "cuda", "cuda:", "cuda:x", "cuda:-1"] {
            let why = refusal(name);
            assert!(why.contains(name) && why.contains("tch-cpu"), "{why}");
        }
    }

    #[test]
    #[cfg(not(feature = "tch"))]
    fn a_backend_that_is_not_in_the_build_says_how_to_get_it() {
        for name in ["tch-cpu", "cuda:0"] {
            assert!(refusal(name).contains("--features tch"));
        }
    }

    #[test]
    #[cfg(feature = "tch")]
    fn a_gpu_that_is_not_there_is_an_error_and_no_panic() {
        assert!(refusal("cuda:4096").contains("LibTorch finds"));
    }

    #[test]
    fn threads_are_the_learners_own() {
        let threads = |n| Compute::new("cpu", n).expect("always there").run(rayon::current_num_threads);
        assert_eq!(threads(3), 3);
        assert_eq!(threads(0), std::thread::available_parallelism().map_or(1, usize::from));
    }
}
