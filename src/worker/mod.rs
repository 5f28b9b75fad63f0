//! A worker process: executors that own connections, and an application that answers their requests.

mod accept;
mod access_line;
mod access_log;
mod backlog;
mod connection;
mod control;
mod cpu_clocks;
mod dispatch;
mod life;
mod logs;
mod notices;
mod overdue;
mod peer;
mod places;
mod seldom;
mod spill;
mod turnover;
mod unread;
mod watch;

pub use life::run;
