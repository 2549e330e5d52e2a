//! A wire between two programs that a test can cut: what was sent is taken, and goes nowhere.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// Carries TCP connections from an address of its own to another.
pub struct Wire {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    /// Listens on loopback.
    pub fn to(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let own = listener.local_addr().unwrap();
        let wire = Wire { address: own, is_cut: Arc::default(), ends: Arc::default() };
        let (is_cut, ends) = (wire.is_cut.clone(), wire.ends.clone());
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(address) else { continue };
                ends.lock().unwrap().extend([near.try_clone().unwrap(), far.try_clone().unwrap()]);
                carry(near.try_clone().unwrap(), far.try_clone().unwrap(), is_cut.clone());
                carry(far, near, is_cut.clone());
            }
        });
        wire
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on nothing comes through, and nobody is told.
    pub fn cut(&self) {
        self.is_cut.store(true, SeqCst);
    }

    /// New connections come through again; the old ones are closed.
    pub fn mend(&self) {
        self.ends.lock().unwrap().drain(..).for_each(|end| drop(end.shutdown(Shutdown::Both)));
        self.is_cut.store(false, SeqCst);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, is_cut: Arc<AtomicBool>) {
    std::thread::spawn(move || {
        let mut chunk = vec![0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut chunk) {
            if !is_cut.load(SeqCst) && to.write_all(&chunk[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}
