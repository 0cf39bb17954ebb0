module tillbridge

go 1.26.0
