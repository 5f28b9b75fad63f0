//! A worker process: executors that own connections, and an application that answers their requests.

mod accept;
mod access_line;
mod access_log;
mod backlog;
mod connection;
mod connection_churn;
mod connection_limit;
mod control;
mod cpu_clocks;
mod dispatch;
mod lifecycle;
mod log_throttle;
mod logs;
mod notices;
mod overload;
mod paused_reads;
mod peer;
mod request_deadline;
mod spill;
mod watch;

pub use lifecycle::run;
