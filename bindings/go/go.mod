module tine

go 1.23
