#!/usr/bin/env perl
# A pool whose workers are Perl too, by FFI::Platypus. docs/ffi.md says what is done here and why.
use strict;
use warnings;
use Cwd qw(abs_path);
use FFI::Platypus 1.00;
use FFI::Platypus::Buffer qw(scalar_to_buffer buffer_to_scalar);
use FFI::Platypus::Memory qw(memcpy);

my $ffi = FFI::Platypus->new(api => 1, lib => 'libtine.so.0.1');
$ffi->type('(opaque)->int' => 'tine_fn');
$ffi->attach(tine_register => ['string', 'tine_fn'] => 'int');
$ffi->attach(tine_input => ['opaque', 'opaque'] => 'opaque');
$ffi->attach(tine_output => ['opaque', 'size_t'] => 'opaque');
$ffi->attach(tine_init => ['int', 'opaque'] => 'int');
$ffi->attach(tine_errname => ['int'] => 'string');
$ffi->attach(tine_pool_create => ['opaque', 'opaque*'] => 'int');
$ffi->attach(tine_pool_destroy => ['opaque'] => 'void');
$ffi->attach(tine_submit => ['opaque', 'opaque', 'opaque', 'size_t', 'opaque', 'uint64*'] => 'int');
$ffi->attach(tine_wait => ['opaque', 'uint64', 'sint64', 'opaque'] => 'int');
$ffi->attach(tine_result_release => ['opaque', 'opaque'] => 'void');

sub check { my ($code) = @_; die tine_errname($code), "\n" if $code < 0 }
sub address { my ($pointer) = scalar_to_buffer($_[0]); $pointer }

my $square = $ffi->closure(sub {
    my ($task) = @_;
    my $number = unpack 'q', buffer_to_scalar(tine_input($task, undef), 8);
    my $place = tine_output($task, 16) or return -12; # -ENOMEM
    my $output = pack 'qq', $number * $number, $$;
    memcpy($place, address($output), 16);
    return 0;
});
my $crash = $ffi->closure(sub { kill KILL => $$; return 0 });
check tine_register('square', $square);
check tine_register('crash', $crash);
check tine_init(0, undef); # a worker stays in here

my ($path, $script) = ("$^X\0", abs_path($0) . "\0");
my $arguments = pack 'QQ', address($script), 0;
my $options = "\0" x 112; # .size .workers .worker_path .worker_arguments
my %fields = (0 => 112, 16 => 2, 96 => address($path), 104 => address($arguments));
substr($options, $_, 8) = pack 'Q', $fields{$_} for keys %fields;
my $pool;
check tine_pool_create(address($options), \$pool);

sub submit {
    my ($name, $number) = ("$_[0]\0", pack 'q', $_[1]);
    my $options = pack 'QQQ', 24, 0, address($name); # .size .error .name
    my $id = 0;
    check tine_submit($pool, undef, address($number), 8, address($options), \$id);
    return $id;
}

sub wait_for {
    my $result = pack 'Q6', 48, 0, 0, 0, 0, 0; # .size .id .status .delivery .message .data .length
    check tine_wait($pool, $_[0], ~0 >> 1, address($result));
    my ($status, undef, undef, $data, $length) = unpack 'x16 l l Q Q Q', $result;
    my $output = $data ? buffer_to_scalar($data, $length) : '';
    tine_result_release($pool, address($result));
    return ($status, $output);
}

my @ids = map { submit('square', $_) } 1 .. 4;
my @squares = map {
    my ($status, $output) = wait_for($_);
    check $status;
    my ($number, $process) = unpack 'qq', $output;
    die 'not in a worker' if $process == $$;
    $number;
} @ids;
my ($status) = wait_for(submit('crash', 0));
print "@squares ", tine_errname($status), "\n";
tine_pool_destroy($pool);
