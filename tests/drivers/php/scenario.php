<?php
// Statements and output of values, for both PHP programs.

function show(mixed $value, bool $binary): string
{
    return match (true) {
        $value === null => 'NULL',
        $binary => bin2hex($value),
        default => (string) $value,
    };
}

/** Formats rows. $binary has the indexes of columns with bytes. */
function rows(array $rows, array $binary = []): string
{
    $words = fn(array $row) => implode(' ', array_map(
        fn($value, $column) => show($value, in_array($column, $binary)), $row, array_keys($row)));
    return implode(' / ', array_map($words, $rows)) ?: '-';
}

function say(string ...$words): void
{
    echo implode(' ', $words), "\n";
}

function numbers(string $step, iterable $rows): void
{
    [$count, $sum] = [0, 0];
    foreach ($rows as [$n]) {
        $count++;
        $sum += $n;
    }
    say($step, "$count $sum");
}

function names(): iterable
{
    foreach (range(1, 100) as $id) {
        yield [$id, $id % 2 === 0 ? null : "name $id"];
    }
}

const STATEMENT = 'SELECT id, name, price FROM items WHERE id >= ? AND price < ? ORDER BY id';
const FIELD = "SELECT REPEAT('0123456789abcdef', 1048577)";
const COUNTED = 'SELECT COUNT(*), SUM(id), COUNT(name) FROM batch';
// The last column of `kinds`.
const BYTES = [7];
