# SPDX-License-Identifier: MIT
"""A program of many tokio services, made for its debug info: build/bench/services.

Each service has types of its own, so that the compiler makes tokio's and the standard library's
generic code anew for each, as it does in large programs."""
import os
import pathlib
import shutil
import subprocess

from common import BUILD, REPOSITORY, Failed, progress

CRATES, SERVICES = 6, 22

SERVICE = """
#[derive(Debug, Clone, PartialEq)]
pub struct Order@ { pub id: u64, pub item: String, pub lines: Vec<Line@>, pub urgent: bool }
#[derive(Debug, Clone, PartialEq)]
pub struct Line@ { pub sku: [u8; 16], pub count: u32, pub note: Option<String> }
#[derive(Debug, Clone)]
pub enum Event@ { Placed(Order@), Shipped { id: u64, at: Duration }, Failed(u64, Failure@) }
#[derive(Debug, Clone)]
pub enum Failure@ { Unknown(u64), Busy, Late(Duration), Rejected { order: Order@, why: String } }
pub struct Receipt@ { pub order: Order@, pub paid: f64 }
type Asked@ = (Order@, oneshot::Sender<Result<Receipt@, Failure@>>);

pub struct Service@ {
    stock: Mutex<HashMap<u64, Order@>>,
    seen: RwLock<BTreeMap<String, Line@>>,
    limit: Semaphore,
    bus: broadcast::Sender<Event@>,
    clerk: mpsc::Sender<Asked@>,
}

impl Service@ {
    pub fn start() -> Arc<Self> {
        let (clerk, inbox) = mpsc::channel(16);
        let (bus, _) = broadcast::channel(16);
        let service = Arc::new(Service@ {
            stock: Mutex::new(HashMap::new()),
            seen: RwLock::new(BTreeMap::new()),
            limit: Semaphore::new(8),
            bus,
            clerk,
        });
        tokio::spawn(service.clone().work(inbox));
        tokio::spawn({ let service = service.clone(); async move { service.watch().await } });
        service
    }

    async fn work(self: Arc<Self>, mut inbox: mpsc::Receiver<Asked@>) {
        let mut running = JoinSet::new();
        while let Some((order, answer)) = inbox.recv().await {
            let service = self.clone();
            running.spawn(async move { let _ = answer.send(service.pay(order).await); });
            while let Some(done) = running.try_join_next() { done.unwrap(); }
        }
    }

    async fn watch(&self) -> usize {
        let mut events = self.bus.subscribe();
        let mut count = 0;
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(Event@::Failed(id, why)) => { self.forget(id, why).await; }
                    Ok(_) => count += 1,
                    Err(_) => return count,
                },
                _ = sleep(Duration::from_millis(@ + 1)) => return count,
            }
        }
    }

    async fn forget(&self, id: u64, why: Failure@) -> Option<Order@> {
        let gone = self.stock.lock().await.remove(&id);
        if let Failure@::Rejected { order, .. } = why {
            self.seen.write().await.extend(order.lines.into_iter().map(|l| (order.item.clone(), l)));
        }
        gone
    }

    async fn pay(&self, order: Order@) -> Result<Receipt@, Failure@> {
        let _permit = self.limit.acquire().await.map_err(|_| Failure@::Busy)?;
        let (known, line) = tokio::join!(self.known(order.id), self.line(&order.item));
        if known { return Err(Failure@::Rejected { order, why: format!("{line:?}") }); }
        self.stock.lock().await.insert(order.id, order.clone());
        let _ = self.bus.send(Event@::Placed(order.clone()));
        timeout(Duration::from_secs(1), self.ship(order)).await.map_err(|_| Failure@::Late(Duration::ZERO))?
    }

    async fn known(&self, id: u64) -> bool { self.stock.lock().await.contains_key(&id) }
    async fn line(&self, item: &str) -> Option<Line@> { self.seen.read().await.get(item).cloned() }

    fn ship(&self, order: Order@) -> Pin<Box<dyn Future<Output = Result<Receipt@, Failure@>> + Send + '_>> {
        Box::pin(async move {
            sleep(Duration::from_millis(1)).await;
            let _ = self.bus.send(Event@::Shipped { id: order.id, at: Duration::ZERO });
            let mut lines: Vec<_> = order.lines.iter().filter(|l| l.count > 0).collect();
            lines.sort_by(|a, b| a.count.cmp(&b.count).then_with(|| a.note.cmp(&b.note)));
            Ok(Receipt@ { paid: lines.len() as f64, order })
        })
    }

    pub async fn ask(&self, order: Order@) -> Result<Receipt@, Failure@> {
        let (answer, answered) = oneshot::channel();
        self.clerk.send((order, answer)).await.map_err(|_| Failure@::Busy)?;
        answered.await.map_err(|_| Failure@::Busy)?
    }

    pub async fn serve(self: Arc<Self>, stream: TcpStream) -> std::io::Result<u64> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        let mut served = 0;
        while let Some(item) = lines.next_line().await? {
            let order = Order@ { id: served, item, lines: Vec::new(), urgent: false };
            let text = match self.ask(order).await {
                Ok(receipt) => format!("{:?} {}\\n", receipt.order, receipt.paid),
                Err(failure) => format!("{failure:?}\\n"),
            };
            write.write_all(text.as_bytes()).await?;
            served += 1;
        }
        Ok(served)
    }
}

pub async fn run@() -> u64 {
    let service = Service@::start();
    let order = Order@ { id: @, item: "item".into(), lines: Vec::new(), urgent: true };
    let spawned = tokio::spawn(async move { service.ask(order).await.map_or(0, |r| r.order.id) });
    spawned.await.unwrap_or(0)
}
"""

USES = """#![allow(dead_code)]
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{broadcast, mpsc, oneshot, Mutex, RwLock, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
"""

# One crate's first services answer over the network too, so that `serve` is compiled.
MAIN = """
use tokio::net::TcpListener;

#[tokio::main(worker_threads = 2)]
async fn main() -> std::io::Result<()> {{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {{}}", listener.local_addr()?);
    let mut sum = 0;
{runs}
    println!("sum {{sum}}");
    if std::env::args().len() > 1 {{
        return Ok(());
    }}
    let mut count = 0usize;
    loop {{
        let (stream, _) = listener.accept().await?;
        count += 1;
        match count % {all} {{
{serves}
            _ => {{}}
        }}
    }}
}}
"""


def write(path, text):
    """Only what differs, so that cargo builds nothing twice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def generate(directory):
    head = '[package]\nname = "{}"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n'
    tokio = 'tokio = { version = "1", features = ["full"] }\n'
    names = [f"part{n}" for n in range(CRATES)]
    write(directory / "Cargo.toml",
          head.format("services") + tokio + "".join(f'{n} = {{ path = "{n}" }}\n' for n in names)
          + '[profile.dev]\ndebug = "full"\n[workspace]\n')
    runs, serves = [], []
    for c, name in enumerate(names):
        numbers = range(c * SERVICES, (c + 1) * SERVICES)
        write(directory / name / "Cargo.toml", head.format(name) + tokio)
        write(directory / name / "src" / "lib.rs",
              USES + "".join(SERVICE.replace("@", str(n)) for n in numbers))
        for n in numbers:
            runs.append(f"    sum += {name}::run{n}().await;")
            serves.append(f"            {n} => {{ tokio::spawn({name}::Service{n}::start()"
                          ".serve(stream)); }")
    write(directory / "src" / "main.rs",
          MAIN.format(runs="\n".join(runs), serves="\n".join(serves), all=CRATES * SERVICES))


def build():
    """The program's path; made at first use, which takes some minutes."""
    directory = REPOSITORY / "build" / "bench"
    program = directory / "services"
    stamp = directory / "services.stamp"
    if program.exists() and stamp.exists() and \
            stamp.stat().st_mtime > pathlib.Path(__file__).stat().st_mtime:
        return program
    cargo = shutil.which("cargo")
    if not cargo:
        raise Failed("there is no cargo to build the services with")
    generate(directory / "services-source")
    progress("building the services, for some minutes")
    lock = REPOSITORY / "fixtures" / "current" / "Cargo.lock"
    own = directory / "services-source" / "Cargo.lock"
    if not own.exists():
        own.write_text(lock.read_text())
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RUST")}
    environment["CARGO_TARGET_DIR"] = str(directory / "services-target")
    environment["CARGO_INCREMENTAL"] = "0"
    done = subprocess.run([cargo, "build", "--quiet"], cwd=directory / "services-source",
                          env=environment, check=False)
    progress("")
    if done.returncode:
        raise Failed("the services could not be built")
    built = directory / "services-target" / "debug" / "services"
    program.unlink(missing_ok=True)
    os.link(built, program)
    stamp.touch()
    return program
