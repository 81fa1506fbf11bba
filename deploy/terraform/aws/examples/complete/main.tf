# A pair with a VPC of its own: every input is used.

terraform {
  required_version = ">= 1.5.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.33.0"
    }
  }
}

provider "aws" {
  region = "eu-central-1"
}

variable "packages" {
  type = list(object({ url = string, sha256 = string }))
}

variable "operators" {
  description = "From where SSH is allowed."
  type        = list(string)
}

variable "key_name" {
  type = string
}

locals {
  tags = { project = "understudy" }
}

resource "aws_vpc" "this" {
  cidr_block           = "10.20.0.0/16"
  enable_dns_hostnames = true
  tags                 = merge(local.tags, { Name = "understudy" })
}

resource "aws_internet_gateway" "this" {
  vpc_id = aws_vpc.this.id
  tags   = local.tags
}

# The hosts have no public addresses: they fetch packages through a NAT gateway.
resource "aws_subnet" "public" {
  vpc_id               = aws_vpc.this.id
  availability_zone_id = "euc1-az1"
  cidr_block           = "10.20.0.0/28"
  tags                 = local.tags
}

resource "aws_route_table" "public" {
  vpc_id = aws_vpc.this.id
  tags   = local.tags
}

resource "aws_route" "internet" {
  route_table_id         = aws_route_table.public.id
  destination_cidr_block = "0.0.0.0/0"
  gateway_id             = aws_internet_gateway.this.id
}

resource "aws_route_table_association" "public" {
  subnet_id      = aws_subnet.public.id
  route_table_id = aws_route_table.public.id
}

resource "aws_eip" "nat" {
  domain = "vpc"
  tags   = local.tags
}

resource "aws_nat_gateway" "this" {
  allocation_id = aws_eip.nat.id
  subnet_id     = aws_subnet.public.id
  tags          = local.tags
  depends_on    = [aws_route.internet]
}

resource "aws_route_table" "private" {
  vpc_id = aws_vpc.this.id
  tags   = local.tags
}

resource "aws_route" "nat" {
  route_table_id         = aws_route_table.private.id
  destination_cidr_block = "0.0.0.0/0"
  nat_gateway_id         = aws_nat_gateway.this.id
}

module "pair" {
  source = "../.."

  name                           = "web"
  vpc_id                         = aws_vpc.this.id
  zone_ids                       = ["euc1-az2", "euc1-az3"]
  subnet_cidrs                   = ["10.20.1.0/28", "10.20.1.16/28"]
  subnet_route_table_id          = aws_route_table.private.id
  route_table_ids                = [aws_route_table.private.id, aws_route_table.public.id]
  guest_addresses                = { web1 = "10.99.0.21", db1 = "10.99.0.22" }
  packages                       = var.packages
  instance_type                  = "r8i.2xlarge"
  nested_virtualization_families = ["r8i"]
  ami_id                         = null
  root_volume_gib                = 40
  dom0_memory_mib                = 4096
  bridge_address                 = "192.168.80.1/24"
  takeover                       = "manual"
  key_name                       = var.key_name
  ssh_cidrs                      = var.operators
  reboot_when_unreachable        = true
  tags                           = local.tags

  guest_ingress = [
    { protocol = "tcp", from_port = 443, to_port = 443, cidr = "10.20.0.0/16" },
    { protocol = "icmp", from_port = -1, to_port = -1, cidr = "10.20.0.0/16" },
  ]
}

output "pair" {
  value = module.pair
}
