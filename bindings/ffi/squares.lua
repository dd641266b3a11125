#!/usr/bin/env luajit
-- A pool whose workers are Lua too, by LuaJIT's ffi and tine-ffi.h. docs/ffi.md says what is done here and why.
local ffi = require("ffi")
local path = assert(os.getenv("TINE_FFI_H"), "TINE_FFI_H: where tine-ffi.h is")
local header = assert(io.open(path))
ffi.cdef(header:read("*a"))
ffi.cdef("int getpid(void); int kill(int pid, int signal);")
local tine = ffi.load("libtine.so.0.1", true)

local function check(rc)
    if rc < 0 then error(ffi.string(tine.tine_errname(rc))) end
end

local square = ffi.cast("tine_fn", function(task)
    local number = ffi.cast("const int64_t *", tine.tine_input(task, nil))[0]
    local place = ffi.cast("int64_t *", tine.tine_output(task, 16))
    if place == nil then return -12 end -- -ENOMEM
    place[0], place[1] = number * number, ffi.C.getpid()
    return 0
end)
local crash = ffi.cast("tine_fn", function()
    ffi.C.kill(ffi.C.getpid(), 9)
    return 0
end)
check(tine.tine_register("square", square))
check(tine.tine_register("crash", crash))
-- A worker stays in here. What calls back may not be compiled.
jit.off(true)
check(tine.tine_init(0, nil))

local script = ffi.new("const char *[2]") -- NULL at the end
script[0] = arg[0]
local options = ffi.new("tine_pool_options", { size = ffi.sizeof("tine_pool_options"), workers = 2 })
options.worker_path, options.worker_arguments = "/proc/self/exe", script
local place = ffi.new("tine_pool *[1]")
check(tine.tine_pool_create(options, place))
local pool = place[0]

local function submit(name, number)
    local options = ffi.new("tine_submit_options", { size = ffi.sizeof("tine_submit_options") })
    options.name = name
    local id = ffi.new("tine_id[1]")
    check(tine.tine_submit(pool, nil, ffi.new("int64_t[1]", number), 8, options, id))
    return id[0]
end

local function wait(id)
    local result = ffi.new("tine_result", { size = ffi.sizeof("tine_result") })
    check(tine.tine_wait(pool, id, 0x7fffffffffffffffLL, result))
    local status, number, process = result.status, nil, nil
    if status == 0 then
        local data = ffi.cast("const int64_t *", result.data)
        number, process = tonumber(data[0]), tonumber(data[1])
    end
    tine.tine_result_release(pool, result)
    return status, number, process
end

local ids, squares = {}, {}
for number = 1, 4 do ids[number] = submit("square", number) end
for index, id in ipairs(ids) do
    local status, number, process = wait(id)
    check(status)
    assert(process ~= ffi.C.getpid())
    squares[index] = number
end
local status = wait(submit("crash", 0))
print(table.concat(squares, " ") .. " " .. ffi.string(tine.tine_errname(status)))
tine.tine_pool_destroy(pool)
