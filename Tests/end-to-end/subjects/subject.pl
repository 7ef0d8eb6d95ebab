#!/usr/bin/perl
# A subworker without any library, after docs/protocol.md alone: it takes inputs inline and by path, one call at a time.
#
#   join      all inputs, one behind the other
#   large     a megabyte of the first byte of its input
#   tree      a copy of a directory
#   steps     tells its progress twice
#   fail      an error
#   endless   runs until it is cancelled
#
# SUBJECT_FAULT in the environment is something to do wrong, for tests of `rain subworker check`.
use strict;
use warnings;

my $fault = $ENV{SUBJECT_FAULT} // '';

# ---- Reading Cap'n Proto ----
# A struct is [message, segment, byte where its data begins, bytes of data, pointers]; every access is checked.

sub read_exactly {
    my ($socket, $size) = @_;
    my $bytes = '';
    while (length($bytes) < $size) {
        my $count = sysread($socket, $bytes, $size - length($bytes), length($bytes));
        next if !defined($count) && $!{EINTR};
        return undef if !$count;
    }
    return $bytes;
}

# The next message as a list of segments; undef at the end of the stream.
sub read_message {
    my ($socket) = @_;
    my $first = read_exactly($socket, 4) // return undef;
    my $count = unpack('V', $first) + 1;
    die "a message of $count segments\n" if $count > 512;
    my $table = read_exactly($socket, 4 * ($count + ($count + 1) % 2)) // die "half a message\n";
    my @sizes = (unpack('V*', $table))[0 .. $count - 1];
    my $words = 0;
    $words += $_ for @sizes;
    die "a message of $words words\n" if $words > 1 << 26;
    return [map { read_exactly($socket, 8 * $_) // die "half a message\n" } @sizes];
}

sub words_at {
    my ($message, $segment, $byte) = @_;
    die "a pointer out of its message\n"
        if $segment >= @$message || $byte < 0 || $byte + 8 > length($message->[$segment]);
    return unpack('VV', substr($message->[$segment], $byte, 8));
}

sub check_range {
    my ($message, $segment, $byte, $size) = @_;
    die "something out of its message\n"
        if $segment >= @$message || $byte < 0 || $byte + $size > length($message->[$segment]);
}

# What a pointer leads to: its two halves, and where the thing begins. Nothing for a null pointer.
sub follow {
    my ($message, $segment, $byte) = @_;
    my ($low, $high) = words_at($message, $segment, $byte);
    return () if $low == 0 && $high == 0;
    if (($low & 3) == 2) {
        die "it can't read far pointers\n" if $fault eq ($low & 4 ? 'double far' : 'far');
        my ($target, $position) = ($high, 8 * ($low >> 3));
        my ($far_low, $far_high) = words_at($message, $target, $position);
        if ($low & 4) {
            die "a far pointer to no far pointer\n" if ($far_low & 3) != 2 || $far_low & 4;
            my ($tag_low, $tag_high) = words_at($message, $target, $position + 8);
            return ($tag_low & 3, $tag_high, $far_high, 8 * ($far_low >> 3));
        }
        die "a far pointer to a far pointer\n" if ($far_low & 3) == 2;
        ($low, $high, $segment, $byte) = ($far_low, $far_high, $target, $position);
    }
    my $offset = $low >> 2;
    $offset -= 1 << 30 if $offset >= 1 << 29;
    return ($low & 3, $high, $segment, $byte + 8 + 8 * $offset);
}

sub struct_at {
    my ($message, $segment, $byte) = @_;
    my ($kind, $high, $target, $start) = follow($message, $segment, $byte) or return [$message, 0, 0, 0, 0];
    die "no struct where one should be\n" if $kind != 0;
    my ($data, $pointers) = (8 * ($high & 0xFFFF), $high >> 16);
    check_range($message, $target, $start, $data + 8 * $pointers);
    return [$message, $target, $start, $data, $pointers];
}

sub pointer_byte {
    my ($struct, $index) = @_;
    return $index < $struct->[4] ? $struct->[2] + $struct->[3] + 8 * $index : undef;
}

sub child { # the struct behind a pointer
    my ($struct, $index) = @_;
    my $byte = pointer_byte($struct, $index) // return [$struct->[0], 0, 0, 0, 0];
    return struct_at($struct->[0], $struct->[1], $byte);
}

sub number { # of so many bytes in the data of a struct; 0 when it is not there
    my ($struct, $byte, $size) = @_;
    return 0 if $byte + $size > $struct->[3];
    my $form = { 1 => 'C', 2 => 'v', 4 => 'V', 8 => 'Q<' }->{$size};
    return unpack($form, substr($struct->[0][$struct->[1]], $struct->[2] + $byte, $size));
}

sub bytes { # Data
    my ($struct, $index) = @_;
    my $byte = pointer_byte($struct, $index) // return '';
    my ($kind, $high, $segment, $start) = follow($struct->[0], $struct->[1], $byte) or return '';
    die "no bytes where they should be\n" if $kind != 1 || ($high & 7) != 2;
    check_range($struct->[0], $segment, $start, $high >> 3);
    return substr($struct->[0][$segment], $start, $high >> 3);
}

sub text {
    my $bytes = bytes(@_);
    return '' if $bytes eq '';
    die "a text without its end\n" if substr($bytes, -1) ne "\0";
    return substr($bytes, 0, -1);
}

sub structs { # a list of them
    my ($struct, $index) = @_;
    my $byte = pointer_byte($struct, $index) // return ();
    my ($kind, $high, $segment, $start) = follow($struct->[0], $struct->[1], $byte) or return ();
    die "no list of structs where one should be\n" if $kind != 1 || ($high & 7) != 7;
    check_range($struct->[0], $segment, $start, 8 + 8 * ($high >> 3));
    my ($low, $shape) = words_at($struct->[0], $segment, $start);
    my ($count, $data, $pointers) = ($low >> 2, 8 * ($shape & 0xFFFF), $shape >> 16);
    die "a list that is too long\n" if $count * ($data + 8 * $pointers) > 8 * ($high >> 3) || $count > 1 << 20;
    return map { [$struct->[0], $segment, $start + 8 + $_ * ($data + 8 * $pointers), $data, $pointers] } 0 .. $count - 1;
}

sub numbers { # List(UInt32)
    my ($struct, $index) = @_;
    my $byte = pointer_byte($struct, $index) // return ();
    my ($kind, $high, $segment, $start) = follow($struct->[0], $struct->[1], $byte) or return ();
    die "no list of numbers where one should be\n" if $kind != 1 || ($high & 7) != 4;
    check_range($struct->[0], $segment, $start, 4 * ($high >> 3));
    return unpack('V*', substr($struct->[0][$segment], $start, 4 * ($high >> 3)));
}

# ---- Writing it: one segment that grows ----

my $out;

sub allocate {
    my ($words) = @_;
    my $byte = length($out);
    $out .= "\0" x (8 * $words);
    return $byte;
}

sub put { my ($byte, $form, @values) = @_; my $bytes = pack($form, @values); substr($out, $byte, length($bytes)) = $bytes; }

sub put_pointer {
    my ($at, $target, $kind, $high) = @_;
    put($at, 'VV', ((($target - $at - 8) / 8) << 2 | $kind) & 0xFFFFFFFF, $high);
}

sub put_struct { # a new one behind a pointer; returns where its data and its pointers begin
    my ($at, $data_words, $pointers) = @_;
    my $start = allocate($data_words + $pointers);
    put_pointer($at, $start, 0, $data_words | $pointers << 16);
    return ($start, $start + 8 * $data_words);
}

sub put_structs { # a list of them; returns where each begins
    my ($at, $count, $data_words, $pointers) = @_;
    my $size = $data_words + $pointers;
    my $start = allocate(1 + $count * $size);
    put_pointer($at, $start, 1, 7 | ($count * $size) << 3);
    put($start, 'VV', $count << 2, $data_words | $pointers << 16);
    return map { $start + 8 + 8 * $size * $_ } 0 .. $count - 1;
}

sub put_bytes {
    my ($at, $bytes) = @_;
    my $start = allocate(int((length($bytes) + 7) / 8));
    put_pointer($at, $start, 1, 2 | length($bytes) << 3);
    substr($out, $start, length($bytes)) = $bytes;
}

sub put_text { my ($at, $text) = @_; put_bytes($at, "$text\0"); }

# Begins a ToWorker of some kind; returns where its data and its pointer are.
sub begin { my ($which) = @_; $out = ''; allocate(1); my ($data, $pointer) = put_struct(0, 2, 1); put($data + 2, 'v', $which); return ($data, $pointer); }

sub finish {
    my ($socket) = @_;
    my $bytes = pack('VV', 0, length($out) / 8) . $out;
    my $sent = 0;
    while ($sent < length($bytes)) {
        my $count = syswrite($socket, $bytes, length($bytes) - $sent, $sent);
        next if !defined($count) && $!{EINTR};
        exit 0 if !defined($count); # The worker is gone.
        $sent += $count;
    }
}

# ---- The subworker ----

my ($socket, $staging, $inline_max, $credit, $takes_progress, %templates, @waiting);
my $file_count = 0;

sub next_message { return @waiting ? shift @waiting : read_message($socket); }
sub root { my ($message) = @_; return struct_at($message, 0, 0); }

sub input_bytes {
    my ($input) = @_;
    my $location = number($input, 10, 2);
    return bytes($input, 3) if $location == 0;
    die { message => 'it wants a file and was given a directory' } if number($input, 8, 1) & 1;
    die { message => 'an input that is neither inline nor a path' } if $location != 2;
    open(my $file, '<:raw', text($input, 3)) or die { message => 'the input ' . text($input, 3) . " can't be read: $!" };
    local $/;
    return <$file> // '';
}

# Where a file of this size may be made.
sub reserve {
    my ($slot, $size) = @_;
    return $staging if $credit == 0 || $size <= $credit;
    my $id = ++$file_count;
    my (undef, $pointer) = begin(3);
    my ($data) = put_struct($pointer, 2, 0);
    put($data, 'VV', $slot, $id);
    put($data + 8, 'Q<', $size);
    finish($socket);
    my @others;
    while (1) {
        my $message = read_message($socket) // exit 0;
        my $root = root($message);
        if (number($root, 2, 2) != 8) { push @others, $message; next; }
        push @waiting, @others;
        my $granted = child($root, 0);
        die { message => text($granted, 0) } if number($granted, 4, 2) == 1;
        return $staging if $fault eq 'granted';
        return text($granted, 0);
    }
}

sub progress {
    my ($slot, $millionths, $text) = @_;
    return if !$takes_progress && $fault ne 'progress';
    my (undef, $pointer) = begin(4);
    my ($progress) = put_structs($pointer, 1, 1, 1);
    put($progress, 'VV', $slot, $millionths);
    put_text($progress + 8, $text);
    finish($socket);
}

sub steps {
    my ($slot) = @_;
    progress($slot, 250_000, 'first step');
    progress($slot, 500_000, 'second step');
    return 'walked';
}

sub write_file {
    my ($path, $bytes) = @_;
    open(my $file, '>:raw', $path) or die { message => "$path can't be made: $!" };
    print $file $bytes or die { message => "$path can't be written: $!" };
    close($file) or die { message => "$path can't be written: $!" };
}

sub copy_directory {
    my ($from, $to) = @_;
    mkdir($to) or die { message => "$to can't be made: $!" };
    opendir(my $entries, $from) or die { message => "$from can't be read: $!" };
    for my $name (grep { $_ ne '.' && $_ ne '..' } readdir($entries)) {
        if (-d "$from/$name") { copy_directory("$from/$name", "$to/$name"); next; }
        open(my $file, '<:raw', "$from/$name") or die { message => "$from/$name can't be read: $!" };
        local $/;
        write_file("$to/$name", <$file> // '');
    }
}

sub tree {
    my ($call) = @_;
    my ($input) = structs($call, 1);
    die { message => 'its input is no directory' } if !defined($input) || !(number($input, 8, 1) & 1);
    my $path = "$staging/tree-$$-" . ++$file_count;
    copy_directory(text($input, 3), $path);
    if ($fault eq 'input') {
        chmod(0755, text($input, 3));
        write_file(text($input, 3) . '/mark', 'I was here');
    }
    return { path => $path };
}

# Runs until a `cancel` names the slot; what else comes waits.
sub endless {
    my ($slot) = @_;
    while (1) {
        my $message = read_message($socket) // exit 0;
        my $root = root($message);
        return 'cancelled' if number($root, 2, 2) == 5 && grep { $_ == $slot } numbers($root, 0);
        push @waiting, $message;
    }
}

my %methods = (
    join => sub { my ($call) = @_; return join('', map { input_bytes($_) } structs($call, 1)); },
    large => sub { my ($call) = @_; my ($input) = structs($call, 1); return substr(input_bytes($input), 0, 1) x (1 << 20); },
    tree => \&tree,
    steps => sub { my ($call) = @_; return steps(number($call, 0, 4)); },
    fail => sub { die { message => 'it was asked to fail' }; },
    endless => sub { my ($call) = @_; return \endless(number($call, 0, 4)); },
);

sub answer {
    my ($call) = @_;
    my $slot = number($call, 0, 4);
    my $template = $templates{ number($call, 4, 4) } // die "a call of a template that was never told\n";
    my ($value, $path, $failure);
    my $ended = eval {
        my $method = $methods{ $template->{method} } // die { message => "there is no method '$template->{method}'" };
        $value = $method->($call);
        return 1 if ref($value) eq 'SCALAR';
        my @outputs = @{$template->{outputs}};
        die { message => "$template->{method} has one output, not " . @outputs } if @outputs != 1;
        if (ref($value) eq 'HASH') {
            $path = $value->{path};
            die { message => "$template->{method} gives a directory, not a file" } if !$outputs[0];
        } else {
            die { message => "$template->{method} gives a file, not a directory" } if $outputs[0];
            if (length($value) > $inline_max && $fault ne 'inline') {
                $path = reserve($slot, length($value)) . "/output-$$-" . ++$file_count;
                write_file($path, $value);
            }
        }
        1;
    };
    if (!$ended) {
        die $@ if ref($@) ne 'HASH';
        $failure = $@->{message};
    }
    my (undef, $pointer) = begin(1);
    my ($result) = put_structs($pointer, 1, 2, 3);
    put($result, 'V', $slot);
    my $union = $result + 16 + 16;
    if (defined($failure)) {
        put($result + 4, 'v', 1);
        my (undef, $texts) = put_struct($union, 0, 2);
        put_text($texts, $failure);
    } elsif (ref($value) eq 'SCALAR') {
        put($result + 4, 'v', 2);
    } else {
        my ($output) = put_structs($union, 1, 1, 3);
        put($output, 'C', 1) if ref($value) && $fault ne 'kind';
        put($output + 2, 'v', defined($path) ? 1 : 0);
        defined($path) ? put_text($output + 8 + 16, $path) : put_bytes($output + 8 + 16, $value);
    }
    finish($socket);
}

sub main {
    my $descriptor = $ENV{RAIN_SUBWORKER_SOCKET} // die "only a Rain worker can start this program\n";
    open($socket, '+<&=', $descriptor) or die "RAIN_SUBWORKER_SOCKET is no open socket: $!\n";
    binmode($socket);
    $SIG{PIPE} = 'IGNORE';

    my (undef, $pointer) = begin(0);
    my ($data, $pointers) = put_struct($pointer, 1, 4);
    put($data, 'v', 1);
    put_text($pointers, $ENV{RAIN_SUBWORKER_NAME} // '');
    my @names = sort keys %methods;
    my @tasks = put_structs($pointers + 8, scalar(@names), 0, 4);
    put_text($tasks[$_], $names[$_]) for 0 .. $#names;
    put_struct($pointers + 16, 1, 0);
    put_text($pointers + 24, "subject.pl (Perl $^V)");
    finish($socket);

    while (defined(my $message = next_message())) {
        my $root = root($message);
        my $kind = number($root, 2, 2);
        if ($kind == 0) {
            my $welcome = child($root, 0);
            my $version = number($welcome, 0, 2);
            die "the worker speaks version $version of the protocol, this program version 1\n" if $version != 1;
            ($staging, $inline_max, $credit) = (text($welcome, 1), number($welcome, 4, 4), number($welcome, 8, 8));
            $takes_progress = number($welcome, 2, 1) & 1;
        } elsif ($kind == 1) {
            die 'refused: ' . text($root, 0) . "\n";
        } elsif ($kind == 2) {
            for my $template (structs($root, 0)) {
                my @outputs = structs($template, 4);
                my @are_directories = map { number($_, 0, 1) & 1 } @outputs;
                $templates{ number($template, 0, 4) } = { method => text($template, 0), outputs => \@are_directories };
            }
        } elsif ($kind == 3) {
            answer($_) for structs($root, 0);
        } elsif ($kind == 6) {
            my ($pong) = begin(2);
            put($pong + 8, 'Q<', number($root, 8, 8));
            finish($socket);
        } elsif ($kind == 7) {
            exit 0;
        } elsif ($kind > 8) {
            die "a message of kind $kind\n";
        }
    }
}

main();
