module tine.example/tine

go 1.23
