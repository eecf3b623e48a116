module golden

go 1.26.0

require github.com/DataDog/datadog-go/v5 v5.9.1
