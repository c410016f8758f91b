# SPDX-License-Identifier: MIT
"""The future map of objects that are made or kept otherwise: types in units of their own, folded
functions, shared objects, debug files in the usual places and in wrong ones."""
import json
import os
import random
import re
import shutil
import subprocess

import pytest

from conftest import BUILD, PROGRAM, fixture

SOURCE = """
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};

struct Nobody;
impl Wake for Nobody { fn wake(self: Arc<Self>) {} }

pub struct First(u64);
impl Future for First {
    type Output = u64;
    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        if self.0 == 0 { return Poll::Ready(7); }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

pub struct Second(u64);
impl Future for Second {
    type Output = u64;
    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        if self.0 == 0 { return Poll::Ready(7); }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

pub struct Shop<T>(pub T);
impl Shop<u64> {
    pub async fn sell(&self) -> u64 { First(self.0).await + Second(1).await }
}
pub trait Serve { fn serve(&self) -> Pin<Box<dyn Future<Output = u64> + '_>>; }
impl Serve for Shop<u64> {
    fn serve(&self) -> Pin<Box<dyn Future<Output = u64> + '_>> {
        Box::pin(async move { self.sell().await })
    }
}

fn finish<F: Future<Output = u64>>(f: F) -> u64 {
    let mut f = Box::pin(f);
    let waker = Arc::new(Nobody).into();
    loop {
        if let Poll::Ready(n) = f.as_mut().poll(&mut Context::from_waker(&waker)) { return n; }
    }
}

#[no_mangle]
pub extern "C" fn run(n: u64) -> u64 {
    let shop = Shop(n);
    finish(shop.sell()) + finish(shop.serve())
}
"""
MAIN = "fn main() { println!(\"{}\", run(std::env::args().count() as u64)); }\n"
LEGACY = "-Csymbol-mangling-version=legacy"
V0 = "-Csymbol-mangling-version=v0"


def compilers():
    found = [shutil.which("rustc"), "/usr/bin/rustc"]
    return [path for path in dict.fromkeys(found) if path and os.path.exists(path)]


def read(path, *options):
    done = subprocess.run([PROGRAM, "map", *options, path], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def build(rustc, directory, name, *options, source=SOURCE + MAIN):
    path = directory / f"{name}.rs"
    path.write_text(source)
    target = directory / name
    done = subprocess.run(
        [rustc, "--edition=2021", "-g", "-Zunstable-options", "--crate-name=shop", *options,
         path, "-o", target], env=dict(os.environ, RUSTC_BOOTSTRAP="1"), cwd=directory,
        capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(done.stderr.splitlines()[0])
    return target


def comparable(whole):
    """A map's futures and polls without addresses, in an order of their own."""
    text = json.dumps([sorted(json.dumps(entry, sort_keys=True) for entry in whole[key])
                       for key in ("futures", "polls")])
    return re.sub(r'0x[0-9a-f]+|17h[0-9a-f]{16}E', "", text)


@pytest.mark.parametrize("version", ["4", "5"])
@pytest.mark.parametrize("level", ["0", "3"])
@pytest.mark.parametrize("rustc", compilers())
def test_types_in_units_of_their_own(tmp_path, rustc, level, version):
    """.debug_types of DWARF 4, type units of DWARF 5: the same map as without."""
    options = [f"-Copt-level={level}", LEGACY]
    if version == "5":
        options.append("-Zdwarf-version=5")
    plain = build(rustc, tmp_path, "same", *options)
    plain = plain.rename(tmp_path / "plain")
    typed = build(rustc, tmp_path, "same", *options, "-Cllvm-args=-generate-type-units")
    shown = subprocess.run(["readelf", "-SW", typed], capture_output=True, text=True, check=True)
    assert version == "5" or ".debug_types" in shown.stdout
    assert len(read(plain)["futures"]) >= 4
    assert comparable(read(typed)) == comparable(read(plain))


@pytest.mark.parametrize("rustc", compilers())
def test_a_shared_object_has_a_map(tmp_path, rustc):
    """And a program that is linked to it has none of its futures."""
    library = build(rustc, tmp_path, "libshop.so", "--crate-type=cdylib", source=SOURCE)
    whole = read(library)
    assert whole["verdict"] == "futures"
    assert {"shop::First", "shop::Second"} <= {f["name"] for f in whole["futures"]}
    assert whole["polls"] and whole["vtables"]
    assert all(poll["site"] or poll["refusal"] for poll in whole["polls"])
    (tmp_path / "main.rs").write_text(
        "#[link(name = \"shop\")] extern \"C\" { fn run(n: u64) -> u64; }\n"
        "fn main() { println!(\"{}\", unsafe { run(2) }); }\n")
    done = subprocess.run([rustc, "--edition=2021", "-g", "-L.", "main.rs"], cwd=tmp_path,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "main")["verdict"] == "no-async"


@pytest.mark.skipif(not shutil.which("ld.lld"), reason="no lld")
@pytest.mark.parametrize("rustc", compilers())
def test_folded_functions_keep_all_their_names(tmp_path, rustc):
    """The linker makes one of two equal polls: its address is of both futures, and says so."""
    path = build(rustc, tmp_path, "folded", "-Copt-level=3", "-Clink-arg=-fuse-ld=lld",
                 "-Clink-arg=-Wl,--icf=all", LEGACY)
    symbols = subprocess.run(["nm", "-C", path], capture_output=True, text=True, check=True).stdout
    places = {name: address for address, name in re.findall(
        r"^(\w+) [tT] <shop::(First|Second) as core::future::future::Future>::poll", symbols,
        re.M)}
    polls = [p for p in read(path)["polls"] if p["kind"] == "hand-written"]
    if len(places) < 2 and not any(p["ambiguous"] for p in polls):
        pytest.skip("the compiler has merged them itself")
    if len(set(places.values())) == 2:
        assert not any(p["ambiguous"] for p in polls)
        return
    both = [p for p in polls if {"shop::First", "shop::Second"} & set(p["futures"])]
    assert len(both) == 1 and both[0]["ambiguous"]


@pytest.mark.parametrize("mangling", [LEGACY, V0])
@pytest.mark.parametrize("level", ["0", "3"])
@pytest.mark.parametrize("rustc", compilers())
def test_impl_blocks_are_called_by_their_type(tmp_path, rustc, level, mangling):
    """Debug info says {impl#1}; people do not."""
    names = {f["name"] for f in read(build(rustc, tmp_path, "named", f"-Copt-level={level}",
                                           mangling))["futures"]}
    assert "shop::Shop::sell" in names, names
    assert any(re.match(r"<shop::Shop<.*> as shop::Serve>::serve::\{async_block#0\}", name)
               for name in names), names
    assert not any("{impl#" in name for name in names if name.startswith(("shop::", "<shop::")))


def debug_link(path, debug):
    subprocess.run(["objcopy", "--only-keep-debug", path, debug], check=True)
    target = path.with_name("stripped")
    subprocess.run(["strip", "-g", "-o", target, path], check=True)
    return target


@pytest.mark.parametrize("where", ["beside", ".debug"])
def test_debug_links_in_the_usual_directories(tmp_path, where):
    path = fixture("release", "ledger-own")
    copy = tmp_path / "ledger"
    shutil.copy(path, copy)
    debug = tmp_path / ("ledger.debug" if where == "beside" else ".debug/ledger.debug")
    debug.parent.mkdir(exist_ok=True)
    target = debug_link(copy, debug)
    subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", target], check=True)
    copy.unlink()
    assert read(target)["futures"] == read(path)["futures"]


@pytest.mark.skipif(os.geteuid() != 0, reason="/usr/lib/debug is root's")
def test_debug_files_by_build_id(tmp_path):
    path = fixture("release", "ledger-own")
    whole = read(path)
    build_id = whole["build_id"]
    if build_id.startswith("hash-"):
        pytest.skip("no build-id")
    debug = f"/usr/lib/debug/.build-id/{build_id[:2]}/{build_id[2:]}.debug"
    os.makedirs(os.path.dirname(debug), exist_ok=True)
    copy = tmp_path / "ledger"
    shutil.copy(path, copy)
    try:
        target = debug_link(copy, debug)
        assert read(target)["futures"] == whole["futures"]
    finally:
        os.unlink(debug)
        for directory in (os.path.dirname(debug), "/usr/lib/debug/.build-id"):
            if not os.listdir(directory):
                os.rmdir(directory)


def test_a_debug_file_of_another_build_is_not_used(tmp_path):
    """It would put every function elsewhere. Better to say that there is none."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    shutil.copy(fixture("release", "ledger-own"), ours)
    shutil.copy(fixture("release", "ledger-smol"), theirs)
    debug = tmp_path / "ours.debug"
    target = debug_link(ours, debug)
    subprocess.run(["objcopy", f"--add-gnu-debuglink={debug}", target], check=True)
    assert read(target)["verdict"] == "futures"
    subprocess.run(["objcopy", "--only-keep-debug", theirs, debug], check=True)
    assert read(target)["verdict"] == "stripped"


@pytest.mark.parametrize("level", ["0", "3"])
def test_async_closures_that_are_called_by_value(tmp_path, level):
    """Their body is called {synthetic#0}."""
    path = build(compilers()[0], tmp_path, "closures", f"-Copt-level={level}", source=SOURCE + """
#[inline(never)]
async fn call(work: impl AsyncFnOnce(u64) -> u64) -> u64 { work(3).await }
fn main() {
    let held = vec![1u64, 2];
    println!("{}", run(1) + finish(call(async move |n: u64| {
        let held = held;
        First(n).await + held.len() as u64
    })));
}
""")
    closures = [f for f in read(path)["futures"] if f["kind"] == "async closure"]
    assert closures and all(f["state"] for f in closures)
    assert any(f["polls"] or f["inlined"] for f in closures)


IMPL_NAMES = BUILD / "tests" / "tools" / "impl_names"


def impl_names(symbols):
    done = subprocess.run([IMPL_NAMES], input="\n".join(symbols) + "\n", capture_output=True,
                          text=True, check=True, timeout=60)
    return done.stdout.splitlines()


def v0_symbols():
    path = fixture("debug", "shop")
    shown = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout
    symbols = sorted(set(re.findall(r"\w+ \w (_R\w+)$", shown, re.M)))
    if len(symbols) < 100:
        pytest.skip("its standard library is mangled otherwise")
    return symbols


def leading(name):
    """The <...> that a demangled name begins with."""
    depth = 0
    for i, c in enumerate(name):
        depth += (c == "<") - (c == ">" and name[i - 1] != "-")
        if not depth:
            return name[:i + 1]
    return None


@pytest.mark.skipif(not shutil.which("llvm-cxxfilt"), reason="no llvm-cxxfilt")
def test_v0_symbols_are_read_as_llvm_reads_them():
    symbols = v0_symbols()
    shown = subprocess.run(["llvm-cxxfilt"], input="\n".join(symbols), capture_output=True,
                           text=True, check=True).stdout.splitlines()
    impls = 0
    for symbol, name, ours in zip(symbols, shown, impl_names(symbols)):
        kind = re.match(r"_R(?:N[a-zA-Z]|I)*([A-Z])", symbol)
        if not kind or kind[1] not in "MX":
            assert ours == "-", symbol
        elif not re.search(r"dyn |fn\(|'|extern|for<|unsafe", name):  # written otherwise
            impls += 1
            wanted = leading(name)
            assert ours == (wanted if kind[1] == "X" else wanted[1:-1]), symbol
    assert impls > 100


def test_broken_v0_symbols_do_no_harm():
    chance = random.Random(7)
    letters = "NMXYICBETSARQPOFDGKLs_0123456789pyv"
    broken = ["_RNvM" + "B_" * 500, "_R" + "I" * 5000, "_RNvMC0" + "TB7_B7_E" * 60]
    for symbol in v0_symbols()[:500]:
        text = list(symbol)
        for _ in range(chance.randrange(1, 6)):
            text[chance.randrange(2, len(text))] = chance.choice(letters)
        broken.append("".join(text)[:chance.randrange(3, 400)])
    assert len(impl_names(broken)) == len(broken)
