#!/usr/bin/env node
// A pool whose workers are JavaScript too, by the package koffi. docs/ffi.md says what is done here and why.
const koffi = require("koffi");

const library = koffi.load("libtine.so.0.1");
koffi.alias("tine_id", "uint64_t");
const tine_fn = koffi.proto("int tine_fn(void *task)");
const tine = {};
for (const [name, result, parameters] of [
    ["register", "int", ["str", koffi.pointer(tine_fn)]],
    ["input", "void *", ["void *", "void *"]],
    ["output", "void *", ["void *", "size_t"]],
    ["init", "int", ["int", "void *"]],
    ["errname", "str", ["int"]],
    ["pool_create", "int", ["void *", "void *"]],
    ["pool_destroy", "void", ["void *"]],
    ["submit", "int", ["void *", "void *", "void *", "size_t", "void *", "void *"]],
    ["wait", "int", ["void *", "tine_id", "int64_t", "void *"]],
    ["result_release", "void", ["void *", "void *"]],
]) tine[name] = library.func(`tine_${name}`, result, parameters);

function check(code) {
    if (code < 0) throw new Error(tine.errname(code));
}

const square = koffi.register((task) => {
    const number = koffi.decode(tine.input(task, null), "int64_t");
    const place = tine.output(task, 16);
    if (!place) return -12; // -ENOMEM
    koffi.encode(place, "int64_t[2]", [number * number, process.pid]);
    return 0;
}, koffi.pointer(tine_fn));
const crash = koffi.register(() => process.kill(process.pid, "SIGKILL") && 0, koffi.pointer(tine_fn));
check(tine.register("square", square));
check(tine.register("crash", crash));
check(tine.init(0, null)); // a worker stays in here

const path = Buffer.from(`${process.execPath}\0`);
const script = Buffer.from(`${__filename}\0`);
const script_address = koffi.address(script), path_address = koffi.address(path);
const arguments_ = Buffer.alloc(16);
arguments_.writeBigUInt64LE(script_address);
const options = Buffer.alloc(112); // .size .workers .worker_path .worker_arguments
for (const [at, value] of [[0, 112n], [16, 2n], [96, path_address], [104, koffi.address(arguments_)]])
    options.writeBigUInt64LE(value, at);
const place = Buffer.alloc(8);
check(tine.pool_create(options, place));
const pool = place.readBigUInt64LE();

function submit(function_name, number) {
    const name = Buffer.from(`${function_name}\0`);
    const input = Buffer.alloc(8), id = Buffer.alloc(8);
    input.writeBigInt64LE(BigInt(number));
    const options = Buffer.alloc(24); // .size .error .name
    options.writeBigUInt64LE(24n);
    options.writeBigUInt64LE(koffi.address(name), 16);
    check(tine.submit(pool, null, input, 8, options, id));
    return id.readBigUInt64LE();
}

function wait(id) {
    const result = Buffer.alloc(48); // .size .id .status .delivery .message .data .length
    result.writeBigUInt64LE(48n);
    check(tine.wait(pool, id, 2n ** 63n - 1n, result));
    const status = result.readInt32LE(16);
    const output = status === 0 ? koffi.decode(result.readBigUInt64LE(32), "int64_t[2]") : null;
    tine.result_release(pool, result);
    return [status, output];
}

const ids = [1, 2, 3, 4].map((number) => submit("square", number));
const squares = ids.map((id) => {
    const [status, output] = wait(id);
    check(status);
    if (Number(output[1]) === process.pid) throw new Error("not in a worker");
    return output[0];
});
const [status] = wait(submit("crash", 0));
console.log(`${squares.join(" ")} ${tine.errname(status)}`);
tine.pool_destroy(pool);
