#!/usr/bin/env ruby
# A pool whose workers are Ruby too, by Fiddle alone. docs/ffi.md says what is done here and why.
require "fiddle"
require "rbconfig"

TINE = Fiddle.dlopen("libtine.so.0.1")
POINTER, INT, LONG, VOID = Fiddle::TYPE_VOIDP, Fiddle::TYPE_INT, Fiddle::TYPE_LONG_LONG, Fiddle::TYPE_VOID
FUNCTIONS = {
  register: [INT, POINTER, POINTER], input: [POINTER, POINTER, POINTER], output: [POINTER, POINTER, LONG],
  init: [INT, INT, POINTER], errname: [POINTER, INT],
  pool_create: [INT, POINTER, POINTER], pool_destroy: [VOID, POINTER],
  submit: [INT, POINTER, POINTER, POINTER, LONG, POINTER, POINTER],
  wait: [INT, POINTER, LONG, LONG, POINTER], result_release: [VOID, POINTER, POINTER]
}.to_h { |name, (result, *parameters)| [name, Fiddle::Function.new(TINE["tine_#{name}"], parameters, result)] }

def tine(name, *arguments) = FUNCTIONS[name].call(*arguments)

def check(code)
  abort tine(:errname, code).to_s if code.negative?
end

square = Fiddle::Closure::BlockCaller.new(INT, [POINTER]) do |task|
  number = tine(:input, task, nil)[0, 8].unpack1("q")
  place = tine(:output, task, 16)
  next -12 if place.null? # -ENOMEM

  place[0, 16] = [number * number, Process.pid].pack("qq")
  0
end
crash = Fiddle::Closure::BlockCaller.new(INT, [POINTER]) { Process.kill(:KILL, Process.pid) }

check tine(:register, "square", square)
check tine(:register, "crash", crash)
check tine(:init, 0, nil) # a worker stays in here

path = Fiddle::Pointer[RbConfig.ruby]
script = Fiddle::Pointer[File.expand_path(__FILE__)]
arguments = Fiddle::Pointer[[script.to_i, 0].pack("QQ")]
options = "\0" * 112 # .size .workers .worker_path .worker_arguments
{ 0 => 112, 16 => 2, 96 => path.to_i, 104 => arguments.to_i }.each { |at, value| options[at, 8] = [value].pack("Q") }
place = "\0" * 8
check tine(:pool_create, options, place)
POOL = place.unpack1("Q")

def submit(name, number)
  name = Fiddle::Pointer[name]
  options = [24, 0, name.to_i].pack("QQQ") # .size .error .name
  id = "\0" * 8
  check tine(:submit, POOL, nil, [number].pack("q"), 8, options, id)
  id.unpack1("Q")
end

def wait(id)
  result = [48].pack("Q") + "\0" * 40 # .size .id .status .delivery .message .data .length
  check tine(:wait, POOL, id, 2**63 - 1, result)
  status, _, _, data, length = result[16..].unpack("llQQQ")
  output = data.zero? ? "" : Fiddle::Pointer.new(data)[0, length]
  tine(:result_release, POOL, result)
  [status, output]
end

ids = (1..4).map { |number| submit("square", number) }
squares = ids.map do |id|
  status, output = wait(id)
  check status
  number, process = output.unpack("qq")
  raise "not in a worker" if process == Process.pid

  number
end
status, = wait(submit("crash", 0))
puts "#{squares.join(" ")} #{tine(:errname, status)}"
tine(:pool_destroy, POOL)
